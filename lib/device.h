/* SPDX-License-Identifier: MIT */
/* device.h - the node of the module's device, found through libudev. */
#ifndef DEVICE_H
#define DEVICE_H

#include "voxshm.h"

/*
 * The path of the node, which is there and is the module's. Whether it may be
 * opened is not asked.
 * Return: 0, -ENODEV (the module is not loaded, or its node is not here),
 * -ENAMETOOLONG, -ENOMEM.
 */
int device_find(char *path, size_t size, struct voxshm_error *error);

#endif
