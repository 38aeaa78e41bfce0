// SPDX-License-Identifier: MIT
/* resumed.c - killed at every instruction, or rather not: stopped, and let go on when the other side has worked. */
#define CIRCUMSTANCE RESUMED
#include "crash/tests.h"
