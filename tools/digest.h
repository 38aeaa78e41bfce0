/* SPDX-License-Identifier: MIT */
/*
 * digest.h - a running SHA-256.
 *
 * Made by digest_new(), freed by digest_free(). digest_final() tells the sum
 * of all updates so far and makes it ready for the next file.
 */
#ifndef DIGEST_H
#define DIGEST_H

#include <stddef.h>
#include <stdint.h>

#define DIGEST_SIZE 32
#define DIGEST_TEXT (2 * DIGEST_SIZE + 1)

struct digest;

/* Return: the digest, or NULL (out of memory). */
struct digest *digest_new(void);
void digest_free(struct digest *digest);
void digest_update(struct digest *digest, const void *data, size_t size);
void digest_final(struct digest *digest, uint8_t sum[DIGEST_SIZE]);

/* In hexadecimal; returns text. */
char *digest_text(char text[DIGEST_TEXT], const uint8_t sum[DIGEST_SIZE]);

#endif
