/*
 * The ring of the native format: entries that publish themselves.
 *
 * What it models.  Entries are runs of whole lines; the head of a line is one shared word.  A
 * producer with cursor w and a private copy r of `read` grants, writes the payload line by line,
 * and commits with one store: the header at the head of the first line, or, when the entry went
 * to the front, the wrap marker at the old cursor.  A consumer takes entries, may hold several,
 * releases them in order (zeroes the head of each line, one store a line) and stores `read` at
 * any time it likes, at the latest when it finds the ring empty.  Every shared load and store is
 * a step; the run has no end; the producer may be killed at any step.
 *
 * What must hold.  The consumer sees exactly the committed entries, in order and whole, and
 * nothing else: no payload, no leftover of an earlier lap, no abandoned grant is ever taken for
 * a header.  Unreleased lines are never overwritten.  After the producer's death all that it
 * committed is delivered.  The two never wait for each other (an empty ring takes any entry of
 * the permitted length): no invalid end state.
 *
 * What is abstracted.  Payload is the worst there can be at the head of a line: never zero, and
 * not a header that would be right.  The rest of a line is not modelled: it is ordered by the
 * same release store.  Memory is sequentially consistent, as for the vox ring.
 *
 * ABORT        a grant may be abandoned after any part of its payload was written, or committed
 *              shorter than granted; the producer zeroes the heads it wrote and does not use
 * DIRTY_ABORT  a fault: it does not
 * BATCH        entries may be staged: all are written, headers too, but the first store that leads
 *              to them is kept back until the batch is published, at the latest before the
 *              producer waits for room
 * NO_FLUSH     a fault: it waits all the same
 * LATE_CLEAN   a fault: it zeroes what a shortened commit does not use after the commit
 * NO_ZEROING   a fault: the consumer zeroes nothing
 * ZERO_FIRST_LINE_ONLY  a fault: the consumer zeroes the header but not the heads of the payload
 * KEEP_MARKER  a fault: the consumer does not zero the wrap marker
 * EARLY_GIVE_BACK  a fault: the consumer stores `read` before it zeroes
 * NO_SPARE_LINE  a fault: the producer keeps no line for the wrap marker
 */
#ifndef LINES
#define LINES 7
#endif
#ifndef TAGS
#define TAGS 2
#endif
#ifndef LONGEST
#define LONGEST ((LINES - 1) / 2)
#endif
#ifdef NO_SPARE_LINE
#define SPARE 0
#else
#define SPARE 1
#endif

#define EMPTY 0
#define HEADER(tag, length) (1 + (tag) * 8 + (length))
#define LENGTH(header) (((header) - 1) % 8)
#define PAYLOAD(tag, index) (101 + (tag) * 8 + (index))
#define WRAP 255

byte head[LINES];			/* shared: the first word of each line */
byte read;				/* shared */

bool unreleased[LINES];			/* ghost: from the commit to the store of `read` */
byte committed;				/* ghost: entries committed and not yet taken */
byte next_in, next_out;			/* ghost: sequence numbers modulo TAGS */
bool kill_producer, producer_gone;

/* ---- the producer ---- */

#define FITS_AT_END (w >= r && LINES - w >= n + SPARE)
#define FITS_AT_FRONT (w >= r && LINES - w < n + SPARE && n + SPARE <= r)
#define FITS_BETWEEN (w < r && n + SPARE <= r - w)
#define FITS (FITS_AT_END || FITS_AT_FRONT || FITS_BETWEEN)

inline write_payload()
{
	do
	:: i < n && i < stop ->
		atomic {
			assert(!unreleased[start + i]);
			head[start + i] = PAYLOAD(next_in, i); i++
		}
	:: else -> break
	od
}

/* Zeroes the heads that were written from line `used` of the grant on. */
inline clean(used)
{
#ifndef DIRTY_ABORT
	do
	:: i > used && i > 1 -> atomic { i--; head[start + i] = EMPTY }
	:: else -> break
	od
#endif
	skip
}

/*
 * The last store of a commit makes the lines [start, start + n) and the marker's the consumer's.
 * Those of a staged entry are not its own any more either, but no entry is committed.
 */
inline account()
{
	if
	:: start < w -> unreleased[w] = true
	:: else -> skip
	fi;
	i = 0;
	do
	:: i < n -> unreleased[start + i] = true; i++
	:: else -> i = 0; break
	od;
	w = start + n; next_in = (next_in + 1) % TAGS;
	if
	:: staged_at == LINES -> committed++
	:: else -> staged++
	fi
}

/* The store at `at`, by which the consumer comes to the entry; it may be kept back. */
inline lead(at, value)
{
	atomic {
		if
#ifdef BATCH
		:: staged_at == LINES -> staged_at = at; staged_head = value
#endif
		:: head[at] = value
		fi;
		account()
	}
}

inline publish_staged()
{
	atomic {
		head[staged_at] = staged_head; committed = committed + staged;
		staged_at = LINES; staged_head = 0; staged = 0
	}
}

active proctype producer()
{
	byte w, r;
	byte n, start, i, stop;		/* stop: lines to be filled before giving the grant up */
	byte granted;
	byte staged_at = LINES, staged_head, staged;

	{
	do
#ifdef BATCH
	:: staged_at != LINES -> publish_staged()
#endif
	:: atomic {
		if :: n = 1 :: n = 2 :: LONGEST > 2 -> n = 3 :: LONGEST > 3 -> n = 4 fi;
		if			/* `read` is loaded only when the ring seems full */
		:: FITS -> skip
		:: else -> r = read
		fi;
		do
		:: FITS -> break
#if defined(BATCH) && !defined(NO_FLUSH)
		:: !FITS && staged_at != LINES -> goto done
#endif
		:: else -> read != r -> r = read
		od;
		start = (FITS_AT_FRONT -> 0 : w);
		assert(!unreleased[start]);
		i = 1; granted = n; stop = n;
#ifdef ABORT
		if :: stop = n :: stop = 1 :: n > 1 -> stop = n - 1 fi;
#endif
	   };
	   write_payload();
	   if
#ifdef ABORT
	   :: clean(1); goto done		/* abort */
	   :: stop == n && n > 1 ->		/* commit, shorter than granted */
		n--;
#ifndef LATE_CLEAN
		clean(n)
#endif
#endif
	   :: stop == n
	   fi;
	   if
	   :: start < w ->
		head[0] = HEADER(next_in, n);
		lead(w, WRAP)
	   :: else ->
		lead(start, HEADER(next_in, n))
	   fi;
#ifdef LATE_CLEAN
	   if
	   :: granted > n -> head[start + n] = EMPTY
	   :: else -> skip
	   fi;
#endif
done:	   atomic { n = 0; start = 0; i = 0; stop = 0; granted = 0 }
	od
	} unless { kill_producer };
	producer_gone = true
}

/* ---- the consumer ---- */

/* Lines [released, cursor) are held; [read, released) are zeroed but not yet given back. */
inline take()
{
	if
	:: h == WRAP ->
		atomic { marker = cursor; cursor = 0; h = 0 };
#if !defined(NO_ZEROING) && !defined(KEEP_MARKER)
		head[marker] = EMPTY;
#endif
		assert(head[0] != EMPTY)	/* the entry came before the marker */
	:: else ->
		d_step {
			assert(committed > 0);	/* nothing is invented */
			assert(h >= HEADER(next_out, 1));	/* in order, and really a header */
			assert(h <= HEADER(next_out, LONGEST));
			h = LENGTH(h); k = 1;
			do
			:: k < h -> assert(head[cursor + k] == PAYLOAD(next_out, k)); k++
			:: else -> break
			od;
			cursor = cursor + h; committed--; next_out = (next_out + 1) % TAGS;
			h = 0; k = 0
		}
	fi
}

inline give_back(upto)
{
	d_step {
		given = upto; k = read;
		do
		:: k != given -> unreleased[k] = false; k = (k + 1) % LINES
		:: else -> break
		od;
		read = given; k = 0; given = 0
	}
}

inline release_oldest()
{
#ifdef EARLY_GIVE_BACK
	if
	:: released != marker && released != cursor -> give_back(released + LENGTH(head[released]))
	:: else -> skip
	fi;
#endif
	atomic {
		if
		:: released == marker -> released = 0; marker = LINES
		:: else -> skip
		fi;
		k = (released == cursor -> 0 : LENGTH(head[released]))
	};
	do
#ifdef ZERO_FIRST_LINE_ONLY
	:: k > 0 -> head[released] = EMPTY; atomic { released = released + k; k = 0 }
#elif defined(NO_ZEROING)
	:: k > 0 -> atomic { released = released + k; k = 0 }
#else
	:: k > 0 -> atomic { head[released] = EMPTY; released++; k-- }
#endif
	:: else -> break
	od
}

#define HOLDS (released != cursor)

active proctype consumer()
{
	byte cursor, released, h, k, given;
	byte marker = LINES;		/* where the wrap marker was that lies between the two */

	do
	:: h = head[cursor];
		if
		:: h != EMPTY -> take()
		:: else ->
			if
			:: read != released -> give_back(released)	/* found empty: give it all back */
			:: else -> skip
			fi;
			if
			:: head[cursor] != EMPTY
			:: HOLDS -> release_oldest()
			:: !HOLDS && producer_gone && head[cursor] == EMPTY ->
				assert(committed == 0);		/* all that was committed was taken */
				break
			fi
		fi
	:: HOLDS -> release_oldest()
	:: read != released -> give_back(released)
	od
}

/* Death may come between any two steps, or never. */
active proctype fate()
{
	if
	:: kill_producer = true
	:: true
	fi
}
