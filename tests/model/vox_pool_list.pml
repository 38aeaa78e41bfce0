/*
 * The operations on the free list that vox_pool.pml checks: pop with intent and owner, push, and
 * the free that a stale reference cannot pass.  Used by live allocators and by the recovery.
 *
 * Each load, store and CAS of a shared word is a step.  free_head is {index, counter} and a
 * slot's {generation, allocated} is one 64-bit word.  The callers have byte index, counter, next.
 */
#ifndef WORD
#define WORD(me) me		/* whose intent word a thread uses */
#define OWNER(me) me		/* whose slots are what it allocates */
#endif

#ifndef COUNT
#define COUNT head_counter++
#endif

#ifdef NO_COUNTER
#define HEAD_UNCHANGED (head_index == index)
#else
#define HEAD_UNCHANGED (head_index == index && head_counter == counter)
#endif

inline load_head()
{
	atomic { index = head_index; counter = head_counter }
}

/* Pops; s is the slot or NONE.  Uses index, counter, next. */
inline allocate(me, s)
{
	do
	:: load_head();
		if
		:: index == NONE -> s = NONE; break
		:: else -> skip
		fi;
		next = next_free[index];
#ifndef LATE_INTENT
		intent[WORD(me)] = index;
#endif
		if
		:: atomic { HEAD_UNCHANGED ->
			assert(holder[index] == NOBODY);	/* never allocated twice */
			head_index = next; COUNT;
			holder[index] = me; s = index };
			break
		:: atomic { else -> skip }
		fi
	od;
	if
	:: s != NONE ->
#ifdef LATE_INTENT
		intent[WORD(me)] = s;
#endif
#ifdef OWNER_LAST
		atomic { generation[s]++; allocated[s] = true };
		owner[s] = OWNER(me);
#else
		owner[s] = OWNER(me);
		atomic { generation[s]++; allocated[s] = true };
#endif
	:: else -> skip
	fi;
	intent[WORD(me)] = NONE;
	atomic { index = 0; counter = 0; next = 0 }
}

/* Pushes the chain from..to. */
inline push(from, to)
{
	do
	:: load_head();
		next_free[to] = index;
		if
		:: atomic { HEAD_UNCHANGED -> head_index = from; COUNT; holder[from] = NOBODY };
			break
		:: atomic { else -> skip }
		fi
	od;
	atomic { index = 0; counter = 0 }
}

#ifndef MAY_FREE
#define MAY_FREE(me, s) (holder[s] == me || holder[s] == ANYBODY || \
	(me == RECOVERY && holder[s] == DYING))
#endif

/* The 64-bit CAS that takes {g, allocated} to {g, free}. */
inline mark_free(me, s, g, won)
{
#ifdef CAS_STATE_ONLY
	won = (allocated[s] && generation[s] == g);
	atomic {
		if
		:: won && allocated[s] ->
#else
	atomic {
		if
		:: allocated[s] && generation[s] == g ->
#endif
			assert(MAY_FREE(me, s));		/* never freed by another */
			allocated[s] = false; holder[s] = me; won = true
		:: else -> won = false
		fi
	}
}

inline free_slot(me, s, g, won)
{
	intent[WORD(me)] = s;
	mark_free(me, s, g, won);
	if
	:: won -> owner[s] = NOBODY; push(s, s)
	:: else -> skip
	fi;
	intent[WORD(me)] = NONE
}
