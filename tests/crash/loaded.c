// SPDX-License-Identifier: MIT
/* loaded.c - killed at every instruction, while another guest is busy, which must not notice. */
#define CIRCUMSTANCE LOADED
#include "crash/tests.h"
