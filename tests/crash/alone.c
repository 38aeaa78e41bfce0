// SPDX-License-Identifier: MIT
/* alone.c - killed at every instruction, while nothing else happens. */
#include "crash/guest_dies.h"

#define CIRCUMSTANCE ALONE
#include "crash/tests.h"
