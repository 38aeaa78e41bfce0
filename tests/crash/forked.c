// SPDX-License-Identifier: MIT
/* forked.c - killed at every instruction, while a child has copies of all its descriptors. */
#define CIRCUMSTANCE FORKED
#include "crash/tests.h"
