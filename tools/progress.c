/* SPDX-License-Identifier: MIT */
/*
 * progress.c - a line on the terminal that shows how far a transfer is; see
 * progress.h.
 */
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "progress.h"

#define MAX_BAR 40u

void progress_begin(struct progress *progress, bool wanted, uint64_t total)
{
	*progress = (struct progress){
		.wanted = wanted && isatty(STDERR_FILENO),
		.total = total,
		.start = now_ns(),
	};
}

static unsigned int terminal_width(void)
{
	struct winsize size;

	if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) < 0 || size.ws_col == 0)
		return 80;
	return size.ws_col;
}

static void draw_bar(const struct progress *progress, uint64_t done, unsigned int width)
{
	double part = progress->total ? (double)done / (double)progress->total : 1;
	char bar[MAX_BAR + 1];
	unsigned int filled;

	if (part > 1)
		part = 1;
	if (width > MAX_BAR)
		width = MAX_BAR;
	filled = (unsigned int)(part * width);
	memset(bar, '#', filled);
	memset(bar + filled, '.', width - filled);
	bar[width] = '\0';
	fprintf(stderr, "[%s] %3.0f%%  ", bar, 100 * part);
}

static void draw(const struct progress *progress, uint64_t done, double seconds)
{
	unsigned int width = terminal_width();
	double rate = (double)done / seconds;
	char size[SIZE_TEXT], speed[SIZE_TEXT];

	if (width < 50)
		return;
	fputs("\r\033[K", stderr);
	if (progress->total != UINT64_MAX)
		draw_bar(progress, done, width - 48);
	fprintf(stderr, "%s  %s/s", size_text(size, (double)done), size_text(speed, rate));
	if (progress->total != UINT64_MAX && done && done < progress->total)
		fprintf(stderr, "  %.0f s left", (double)(progress->total - done) / rate);
	fflush(stderr);
}

void progress_update(struct progress *progress, uint64_t done)
{
	int64_t now;

	if (!progress->wanted)
		return;
	now = now_ns();
	if (now - progress->start < NS_PER_SECOND || now - progress->last < PROGRESS_INTERVAL)
		return;
	progress->last = now;
	progress->shown = true;
	draw(progress, done, (double)(now - progress->start) / NS_PER_SECOND);
}

void progress_end(struct progress *progress)
{
	if (progress->shown)
		fputs("\r\033[K", stderr);
	progress->shown = progress->wanted = false;
}

int64_t progress_wait(const struct progress *progress)
{
	return progress->wanted ? PROGRESS_INTERVAL : VOXSHM_FOREVER;
}
