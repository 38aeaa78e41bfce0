/* SPDX-License-Identifier: MIT */
/* report.c - see report.h. */
#include <jansson.h>
#include <unistd.h>

#include "report.h"

#define MAX_COLUMNS 16

static struct record *records;
static size_t num_records;

/* Series ------------------------------------------------------------------------- */

static int compare(const void *a, const void *b)
{
	double left = *(const double *)a, right = *(const double *)b;

	return left < right ? -1 : left > right;
}

static unsigned int sorted(const struct series *series, double *values)
{
	unsigned int i, count = 0;

	for (i = 0; i < series->rounds; i++)
		if (!isnan(series->values[i]))
			values[count++] = series->values[i];
	qsort(values, count, sizeof(*values), compare);
	return count;
}

double series_median(const struct series *series)
{
	double values[MAX_ROUNDS];
	unsigned int count = sorted(series, values);

	if (count == 0)
		return NAN;
	return (values[(count - 1) / 2] + values[count / 2]) / 2;
}

double series_low(const struct series *series)
{
	double values[MAX_ROUNDS];

	return sorted(series, values) ? values[0] : NAN;
}

double series_high(const struct series *series)
{
	double values[MAX_ROUNDS];
	unsigned int count = sorted(series, values);

	return count ? values[count - 1] : NAN;
}

unsigned int series_count(const struct series *series)
{
	double values[MAX_ROUNDS];

	return sorted(series, values);
}

double series_ratio(const struct series *over, const struct series *under)
{
	struct series ratios = { 0 };
	unsigned int i;

	for (i = 0; i < over->rounds && i < under->rounds; i++)
		series_set(&ratios, i, over->values[i] / under->values[i]);
	return series_median(&ratios);
}

/* Records -------------------------------------------------------------------------- */

void report_add(const struct record *record)
{
	records = realloc(records, (num_records + 1) * sizeof(*records));
	if (!records) {
		fprintf(stderr, "bench: no memory\n");
		exit(1);
	}
	records[num_records++] = *record;
}

void report_single(const char *section, const char *row, const char *place, uint64_t at,
		   const char *metric, const char *unit, double value)
{
	struct record record = {
		.section = section, .row = row, .family = "voxshm", .place = place, .at = at,
		.metric = metric, .unit = unit,
	};

	series_set(&record.series, 0, value);
	report_add(&record);
}

const struct record *report_find(const char *section, const char *row, uint64_t at,
				 const char *metric)
{
	size_t i;

	for (i = 0; i < num_records; i++)
		if (!strcmp(records[i].section, section) && !strcmp(records[i].row, row) &&
		    records[i].at == at && !strcmp(records[i].metric, metric))
			return &records[i];
	return NULL;
}

double report_ratio(const char *section, const char *over, const char *under, uint64_t at,
		    const char *metric)
{
	const struct record *first = report_find(section, over, at, metric);
	const struct record *second = report_find(section, under, at, metric);

	return first && second ? series_ratio(&first->series, &second->series) : NAN;
}

/* Tables ------------------------------------------------------------------------------ */

const char *report_size(uint64_t size)
{
	static char texts[8][24];
	static unsigned int next;
	char *text = texts[next++ % 8];

	if (size >= MI && size % MI == 0)
		snprintf(text, sizeof(texts[0]), "%u Mi", (unsigned int)(size / MI));
	else if (size >= KI && size % KI == 0)
		snprintf(text, sizeof(texts[0]), "%u Ki", (unsigned int)(size / KI));
	else
		snprintf(text, sizeof(texts[0]), "%u", (unsigned int)size);
	return text;
}

static void print_value(FILE *out, double value)
{
	if (isnan(value))
		fprintf(out, " %9s", "-");
	else if (value != 0 && value < 9.995)
		fprintf(out, " %9.*f", value < 0.0995 ? 4 : 2, value);
	else if (value < 99.95 && value != 0)
		fprintf(out, " %9.1f", value);
	else if (value < 1e6)
		fprintf(out, " %9.0f", value);
	else
		fprintf(out, " %8.1fM", value / 1e6);
}

static bool belongs(const struct record *record, const char *section, const char *metric)
{
	return !strcmp(record->section, section) && !strcmp(record->metric, metric);
}

static unsigned int find_columns(const char *section, const char *metric, uint64_t *columns)
{
	unsigned int count = 0, c;
	size_t i;

	for (i = 0; i < num_records; i++) {
		if (!belongs(&records[i], section, metric))
			continue;
		for (c = 0; c < count && columns[c] != records[i].at; c++)
			;
		if (c == count && count < MAX_COLUMNS)
			columns[count++] = records[i].at;
	}
	return count;
}

static void print_row(FILE *out, const struct record *first, const uint64_t *columns,
		      unsigned int count)
{
	const struct record *record = first;
	const char *note = NULL;
	unsigned int c;

	fprintf(out, "  %-30s", first->row);
	for (c = 0; c < count; c++) {
		record = report_find(first->section, first->row, columns[c], first->metric);
		print_value(out, record ? series_median(&record->series) : NAN);
		if (record && record->note[0])
			note = record->note;
	}
	fprintf(out, note ? "  %s\n" : "\n", note);
}

void report_table(FILE *out, const char *section, const char *metric, const char *title)
{
	uint64_t columns[MAX_COLUMNS];
	unsigned int count = find_columns(section, metric, columns), c;
	size_t i, j;

	if (count == 0)
		return;
	fprintf(out, "\n%s\n  %-30s", title, "");
	for (i = 0; !belongs(&records[i], section, metric); i++)
		;
	for (c = 0; c < count; c++)
		fprintf(out, " %9s", report_size(columns[c]));
	fprintf(out, "\n");
	for (i = 0; i < num_records; i++) {
		if (!belongs(&records[i], section, metric))
			continue;
		for (j = 0; j < i; j++)
			if (belongs(&records[j], section, metric) &&
			    !strcmp(records[j].row, records[i].row))
				break;
		if (j == i)
			print_row(out, &records[i], columns, count);
	}
}

/* Files -------------------------------------------------------------------------------- */

int report_write_csv(const char *path)
{
	FILE *file = fopen(path, "w");
	size_t i;

	if (!file)
		return -errno;
	fprintf(file, "section,family,row,place,at,metric,unit,median,low,high,rounds,dropped\n");
	for (i = 0; i < num_records; i++) {
		const struct record *record = &records[i];
		const struct series *series = &record->series;

		fprintf(file, "%s,%s,\"%s\",%s,%llu,%s,%s,", record->section, record->family,
			record->row, record->place, (unsigned long long)record->at,
			record->metric, record->unit);
		if (series_count(series))
			fprintf(file, "%.6g,%.6g,%.6g,", series_median(series),
				series_low(series), series_high(series));
		else
			fprintf(file, ",,,");
		fprintf(file, "%u,%u\n", series_count(series), record->dropped);
	}
	return fclose(file) ? -errno : 0;
}

static json_t *record_json(const struct record *record)
{
	json_t *values = json_array(), *object;
	unsigned int i;

	for (i = 0; i < record->series.rounds; i++)
		json_array_append_new(values, isnan(record->series.values[i]) ? json_null() :
				      json_real(record->series.values[i]));
	object = json_pack("{ss ss ss ss sI ss ss si so}", "section", record->section,
			   "family", record->family, "row", record->row, "place", record->place,
			   "at", (json_int_t)record->at, "metric", record->metric,
			   "unit", record->unit, "dropped", (int)record->dropped,
			   "values", values);
	if (series_count(&record->series))
		json_object_set_new(object, "median", json_real(series_median(&record->series)));
	if (record->note[0])
		json_object_set_new(object, "note", json_string(record->note));
	return object;
}

int report_write_json(const char *path)
{
	json_t *all = json_array();
	size_t i;
	int ret;

	for (i = 0; i < num_records; i++)
		json_array_append_new(all, record_json(&records[i]));
	ret = json_dump_file(all, path, JSON_INDENT(1) | JSON_REAL_PRECISION(6)) ? -EIO : 0;
	json_decref(all);
	return ret;
}
