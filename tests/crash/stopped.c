// SPDX-License-Identifier: MIT
/* stopped.c - killed at every instruction, after having been stopped for a while, while the other side went on. */
#define CIRCUMSTANCE STOPPED
#include "crash/tests.h"
