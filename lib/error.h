/* SPDX-License-Identifier: MIT */
/* error.h - fills the caller's struct voxshm_error, if there is one. */
#ifndef ERROR_H
#define ERROR_H

#include "voxshm.h"

/* Return: errno_value, so that a check is one statement. */
__attribute__((format(printf, 3, 4)))
int error_set(struct voxshm_error *error, int errno_value, const char *format, ...);

/* Like error_set(), with the meaning of errno_value behind the sentence. */
__attribute__((format(printf, 3, 4)))
int error_errno(struct voxshm_error *error, int errno_value, const char *format, ...);

#endif
