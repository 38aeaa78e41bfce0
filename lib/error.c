/* SPDX-License-Identifier: MIT */
/* error.c - see error.h. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "error.h"

int error_set(struct voxshm_error *error, int errno_value, const char *format, ...)
{
	va_list arguments;

	if (!error)
		return errno_value;
	va_start(arguments, format);
	vsnprintf(error->text, sizeof(error->text), format, arguments);
	va_end(arguments);
	return errno_value;
}

int error_errno(struct voxshm_error *error, int errno_value, const char *format, ...)
{
	va_list arguments;
	size_t used;

	if (!error)
		return errno_value;
	va_start(arguments, format);
	vsnprintf(error->text, sizeof(error->text), format, arguments);
	va_end(arguments);
	used = strlen(error->text);
	snprintf(error->text + used, sizeof(error->text) - used, ": %s",
		 strerrordesc_np(-errno_value));
	return errno_value;
}
