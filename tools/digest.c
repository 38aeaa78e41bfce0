/* SPDX-License-Identifier: MIT */
/*
 * digest.c - a running SHA-256, by OpenSSL; see digest.h.
 *
 * Each update and final of a SHA-256 that has been started succeeds; if one
 * does not, a wrong sum must not pass for a right one: the process aborts.
 */
#include <stdlib.h>

#include <openssl/evp.h>

#include "digest.h"

struct digest {
	EVP_MD_CTX *context;
};

static void must(int success)
{
	if (success != 1)
		abort();
}

struct digest *digest_new(void)
{
	struct digest *digest = calloc(1, sizeof(*digest));

	if (!digest)
		return NULL;
	digest->context = EVP_MD_CTX_new();
	if (!digest->context || EVP_DigestInit_ex(digest->context, EVP_sha256(), NULL) != 1) {
		digest_free(digest);
		return NULL;
	}
	return digest;
}

void digest_free(struct digest *digest)
{
	if (!digest)
		return;
	EVP_MD_CTX_free(digest->context);
	free(digest);
}

void digest_update(struct digest *digest, const void *data, size_t size)
{
	must(EVP_DigestUpdate(digest->context, data, size));
}

void digest_final(struct digest *digest, uint8_t sum[DIGEST_SIZE])
{
	must(EVP_DigestFinal_ex(digest->context, sum, NULL));
	must(EVP_DigestInit_ex(digest->context, NULL, NULL));
}

char *digest_text(char text[DIGEST_TEXT], const uint8_t sum[DIGEST_SIZE])
{
	static const char digits[] = "0123456789abcdef";
	unsigned int i;

	for (i = 0; i < DIGEST_SIZE; i++) {
		text[2 * i] = digits[sum[i] >> 4];
		text[2 * i + 1] = digits[sum[i] & 15];
	}
	text[2 * DIGEST_SIZE] = '\0';
	return text;
}
