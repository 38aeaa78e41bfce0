// SPDX-License-Identifier: MIT
/*
 * beside.c - stopped before every instruction, while another guest dies and is
 * buried; then it goes on, and nothing that it was about to do has gone wrong.
 */
#define CIRCUMSTANCE BESIDE
#define GUESTS_ALONE
#include "crash/tests.h"
