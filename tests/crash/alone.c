// SPDX-License-Identifier: MIT
/* alone.c - killed at every instruction, while nothing else happens. */
#define CIRCUMSTANCE ALONE
#include "crash/tests.h"
