// SPDX-License-Identifier: MIT
/* together.c - killed at every instruction, together with another process. */
#define CIRCUMSTANCE TOGETHER
#include "crash/tests.h"
