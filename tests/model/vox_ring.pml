/*
 * The ring of the vox format: one producer, one consumer, three shared words.
 *
 * What it models.  `write`, `watermark` and `read` are separate shared words; every load and
 * every store of one is a step of its own, and all interleavings of the two sides are taken.
 * The one exception is what our producer does when it wraps: {write, watermark} change in one
 * 64-bit store, so in one step.  Entries of 1..LONGEST cells are chosen freely and the run has
 * no end, so every wrap at every cursor is met.  The producer may be killed at any step.
 *
 * What must hold.  Entries are read exactly once, in order, whole, with the right length and
 * contents; unread cells are never overwritten; a consumer that outlives its producer gets all
 * that was committed and nothing else; producer and consumer never wait for each other (an
 * empty ring takes any entry of the permitted length): no invalid end state.
 *
 * What is abstracted.  A cell stands for an aligned unit of bytes and holds {sequence number
 * modulo TAGS, length or index}.  A cell is BEING_WRITTEN from the grant to the commit, and
 * CONSUMED from the store of the `read` that gives it up: whoever reads it then is caught.
 * Taking entries and our release are therefore one step: nothing between could go unseen.
 * Memory is sequentially consistent: with release stores and acquire loads the only reordering
 * left is a store passing a later load of its own thread, and no step here depends on that.
 *
 * OLD_WRITER   vox-shm's: on a wrap `watermark = write`, then `write = 0`, later `write = n`
 * OLD_READER   vox-shm's: drained to the watermark: `read = 0`, `watermark = 0`, whatever
 *              `write` says; also as part of release
 * SIMPLE_READER  ours, simpler: the watermark counts only while write < read
 * READER_DIES  the consumer may be killed at any step; the producer stops and the ring is then
 *              read out from the shared words by the rules of the consumer (recovery)
 * WRAP_FROM_CACHE  a fault: the consumer wraps on the strength of a `write` loaded earlier
 * SPLIT_WRAP   a fault: our producer publishes the wrap in two stores, watermark first
 */
#ifndef CAPACITY
#define CAPACITY 9
#endif
#ifndef TAGS
#define TAGS 2
#endif
#ifndef LONGEST
#define LONGEST ((CAPACITY - 1) / 2)
#endif

#define CONSUMED 0
#define BEING_WRITTEN 255
#define HEAD(tag, length) (1 + (tag) * 16 + (length))
#define BODY(tag, index) (1 + (tag) * 16 + 8 + (index))
#define LENGTH(head) (((head) - 1) % 16)

byte write, watermark, read;		/* the shared words */
byte cell[CAPACITY];

byte unread;				/* ghost: entries committed and not yet given up */
byte next_in, next_out;			/* ghost: sequence numbers modulo TAGS */
bool kill_writer, writer_gone, kill_reader;

/* ---- the producer: w is its own `write`, r its private copy of `read` ---- */

#define FITS_AT_END (w >= r && CAPACITY - w >= n)
#define FITS_AT_FRONT (w >= r && CAPACITY - w < n && n < r)
#define FITS_BETWEEN (w < r && n < r - w)
#define FITS (FITS_AT_END || FITS_AT_FRONT || FITS_BETWEEN)

/* From the grant on the cells are the producer's: unread ones are never overwritten. */
inline grant(where)
{
	start = where;
	do
	:: i < n ->
		assert(cell[start + i] == CONSUMED);
		cell[start + i] = BEING_WRITTEN; i++
	:: else -> i = 0; break
	od
}

/* One step; for our producer {write, watermark} are one word. */
inline commit()
{
	atomic {
		do
		:: i < n -> cell[start + i] = (i == 0 -> HEAD(next_in, n) : BODY(next_in, i)); i++
		:: else -> i = 0; break
		od;
		if
		:: start < w -> watermark = w
		:: else -> skip
		fi;
		w = start + n; write = w;
		unread++; next_in = (next_in + 1) % TAGS; n = 0; start = 0
	}
}

active proctype producer()
{
	byte w, r, n, start, i;

	{
	do
	:: atomic {
		if :: n = 1 :: n = 2 :: LONGEST > 2 -> n = 3 :: LONGEST > 3 -> n = 4
		:: LONGEST > 4 -> n = 5 fi;
#ifdef OLD_WRITER
		r = read
	   };
	   do
	   :: atomic { FITS_AT_END || FITS_BETWEEN -> grant(w) }; break
	   :: w >= r && CAPACITY - w < n && r > 0 ->
		watermark = w;
		atomic {
			write = 0; w = 0;
			if
			:: n < r -> grant(0); break
			:: else -> skip
			fi
		}
	   :: else -> atomic { read != r -> r = read }	/* full, perhaps half wrapped */
	   od;
	   atomic { commit(); r = 0 }
#else
		if			/* `read` is loaded only when the ring seems full */
		:: FITS -> skip
		:: else -> r = read
		fi;
		do
		:: FITS -> grant((FITS_AT_FRONT -> 0 : w)); break
		:: else -> read != r -> r = read
		od
	   };
#ifdef SPLIT_WRAP
	   if
	   :: start < w -> watermark = w
	   :: else -> skip
	   fi;
#endif
	   commit()
#endif
	od
	} unless { kill_writer };
	writer_gone = true
}

/* ---- the consumer: [read, limit) is known to be readable ---- */

#define WRAP 255

/* Loads the words and finds the next readable region; none: limit == read. */
inline look()
{
#ifdef SIMPLE_READER
	atomic { seen_write = write; limit = (seen_write >= read -> seen_write : WRAP) };
	if
	:: limit == WRAP ->
		atomic {
			seen_mark = watermark;
			if
			:: seen_mark > read -> limit = seen_mark
			:: else -> skip
			fi
		}
	:: else -> skip
	fi;
#else
	seen_write = write;
	atomic {
		seen_mark = watermark;
		if
		:: seen_mark == 0 -> limit = (read < seen_write -> seen_write : read)
		:: seen_mark > read -> limit = seen_mark
#ifdef OLD_READER
		:: else -> limit = WRAP
#else
		:: else -> limit = (seen_write < read -> WRAP : read)
#endif
		fi
	};
#endif
	if
	:: limit == WRAP ->
		read = 0;
		watermark = 0;
#ifdef OLD_READER
		seen_write = write;
#endif
		atomic { seen_mark = 0; limit = seen_write }
	:: else -> skip
	fi
}

/* Reads one or more entries from `read` on: old bytes, if any, would be taken for new here. */
inline take_entries()
{
	position = read;
	do
	:: position < limit ->
		assert(cell[position] != CONSUMED);		/* no old bytes are read again */
		assert(cell[position] >= HEAD(next_out, 1));	/* in order */
		assert(cell[position] <= HEAD(next_out, LONGEST));
		length = LENGTH(cell[position]);
		assert(position + length <= limit);		/* whole */
		k = 1;
		do
		:: k < length -> assert(cell[position + k] == BODY(next_out, k)); k++
		:: else -> break
		od;
		position = position + length; taken++;
		next_out = (next_out + 1) % TAGS
	:: position > read -> break
	od
}

/* The store of `read` that gives [read, position) back to the producer. */
inline give_up(target)
{
	k = read;
	do
	:: k < position -> cell[k] = CONSUMED; k++
	:: else -> break
	od;
	read = target; unread = unread - taken; position = 0; taken = 0; length = 0; k = 0
}

inline take_and_release()
{
#ifdef OLD_READER
	atomic { take_entries(); seen_mark = watermark; limit = 0 };
	if
	:: seen_mark != 0 && position >= seen_mark ->
		atomic { give_up(0); seen_mark = 0; seen_write = 0 };
		watermark = 0
	:: else -> atomic { give_up(position); seen_mark = 0; seen_write = 0 }
	fi
#else
	atomic { take_entries(); give_up(position) }
#endif
}

#ifdef SIMPLE_READER
#define WORDS_CHANGED (write != seen_write)
#else
#define WORDS_CHANGED (write != seen_write || watermark != seen_mark)
#endif

/* What was loaded is kept only where something still depends on it. */
#ifdef WRAP_FROM_CACHE
#define FORGET_WORDS skip
#else
#define FORGET_WORDS seen_write = 0; seen_mark = 0
#endif

active proctype consumer()
{
	byte limit, seen_write, seen_mark, position, length, k, taken;

	{
	do
	:: read < limit -> take_and_release()
#ifdef WRAP_FROM_CACHE
	:: read >= limit && seen_mark != 0 && read >= seen_mark && seen_write < read ->
		read = 0; atomic { watermark = 0; limit = seen_write; seen_mark = 0 }
#endif
	:: else ->
		look();
		if
		:: atomic { read < limit -> FORGET_WORDS }
		:: else ->		/* empty; the same words would give the same answer */
			if
			:: WORDS_CHANGED
			:: writer_gone && !kill_reader && !(WORDS_CHANGED) ->
				assert(unread == 0);	/* all that was committed was read */
				break
			fi
		fi
	od
	} unless { kill_reader };

#ifdef READER_DIES
	if
	:: kill_reader && writer_gone ->	/* recovery: only the shared words are left */
		atomic {
			limit = 0; seen_write = 0; seen_mark = 0;
			next_out = (next_in + TAGS * CAPACITY - unread) % TAGS
		};
		do
		:: look();
			if
			:: read < limit -> atomic { take_entries(); give_up(position) }
			:: else -> break
			fi
		od;
		assert(unread == 0)	/* every entry that was not released is found */
	:: !kill_reader
	fi
#endif
}

/* Death may come between any two steps, or never. */
active proctype fate()
{
	if
#ifdef READER_DIES
	:: atomic { kill_reader = true; kill_writer = true }
#else
	:: kill_writer = true
#endif
	:: true
	fi
}
