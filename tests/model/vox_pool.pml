/*
 * The shared free list of the vox format, and the recovery of a dead allocator's slots.
 *
 * What it models.  One size class: free_head {index, counter}, and per slot {generation, state}
 * in one 64-bit word, owner, next_free.  LIVE is an allocating thread that lives (the host's: it
 * also receives slots from DYING and releases them), DYING an allocating thread of a guest that
 * is killed at any step, RECOVERY the host recovering it.  Every load, store and CAS of a shared
 * word is a step.  Each thread names a slot in its intent word before it pops and before it
 * marks free.  Recovery: mark held what lies unread in the ring; free what the dead owns and the
 * host does not hold; test the slot that the dead's intent names (read {generation, state}, read
 * live intents, take the whole list, read live intents again) and put it back when it is lost.
 *
 * What must hold.  A slot is popped only when nobody has it, and given back only by him who may
 * (so: never allocated twice, never freed twice).  The list is never cut, crossed or circular.
 * When all are done, every slot is on the list, free, without an owner: none is lost.  Parked
 * slots are tried again when the live intent that names them is gone, so they count too.
 *
 * What is abstracted.  The number of allocations is bounded (BY_LIVE, BY_DYING), so generations
 * and the counter do not wrap.  Ring traffic is a set of slots; that a link's receiver and the
 * recovery exclude each other while they look at the ring is taken for granted.
 *
 * HOST_SENDS     LIVE also sends slots of its own to DYING: owner = DYING, then the commit
 * NO_LINK_LOCK   a fault: ... and the recovery does not exclude a send that is under way
 * LATE_INTENT    a fault: the intent is set after the pop
 * CAS_STATE_ONLY a fault: free checks the generation, then swaps the state alone
 * NO_COUNTER     a fault: free_head is compared by its index alone
 * OWNER_LAST     a fault: the owner is set after state became allocated (as vox-shm does)
 * NO_RECHECK     a fault: the live intents are not read again after the list was taken
 */
#ifndef SLOTS
#define SLOTS 2
#endif
#ifndef BY_LIVE
#define BY_LIVE 2
#endif
#ifndef BY_DYING
#define BY_DYING 1
#endif

#define NONE 255			/* no slot; end of the list */
#define NOBODY 0			/* threads, also as owners; 0 owns nothing */
#define LIVE 1
#define DYING 2
#define RECOVERY 3
#define ANYBODY 4			/* ghost: given up by its holder, not freed yet */

byte head_index, head_counter;		/* one 64-bit word */
byte generation[SLOTS];
bool allocated[SLOTS];			/* with generation: one 64-bit word */
byte owner[SLOTS], next_free[SLOTS];
byte intent[4] = NONE;			/* RECOVERY has one too, but nobody reads it */

byte to_host[SLOTS], to_guest[SLOTS];	/* unread slot references: generation, 0 = none */
bool held[SLOTS];			/* host-private: received and not yet released */
byte holder[SLOTS];			/* ghost: who has the slot in his hands */
bool kill, dead, goodbye, marked, live_done;

#include "vox_pool_list.pml"

#define EACH_SLOT(condition, s) \
	:: condition(0) -> s = 0 \
	:: SLOTS > 1 && condition(1 % SLOTS) -> s = 1 % SLOTS \
	:: SLOTS > 2 && condition(2 % SLOTS) -> s = 2 % SLOTS

inline got_one()
{
	atomic {
		if
		:: s != NONE -> mine[s] = generation[s]; budget--
		:: else -> skip
		fi;
		s = 0
	}
}

#define HAS(s) (mine[s] != 0)
#define HAS_OWN(s) (mine[s] != 0 && !held[s] && !goodbye)
#define IN_TO_HOST(s) (to_host[s] != 0 && mine[s] == 0)
#define IN_TO_GUEST(s) (to_guest[s] != 0 && mine[s] == 0)
#define NOTHING(s) (mine[s] == 0 && to_host[s] == 0)

proctype live()
{
	byte mine[SLOTS];		/* generation of what this thread holds */
	byte budget = BY_LIVE;
	byte index, counter, next, s, g;
	bool won, received;

	do
	:: budget > 0 && head_index != NONE -> allocate(LIVE, s); got_one()
	:: atomic { if EACH_SLOT(IN_TO_HOST, s) fi;	/* receive: mark held, then look */
		assert(!held[s] || marked);		/* nothing is sent twice */
		held[s] = true; mine[s] = to_host[s]; to_host[s] = 0; s = 0 }
	:: atomic { if EACH_SLOT(HAS, s) fi;		/* free one's own, or release */
		g = mine[s]; mine[s] = 0; received = held[s];
		if
		:: received -> held[s] = false; holder[s] = ANYBODY
		:: else -> skip
		fi };
		free_slot(LIVE, s, g, won);
		assert(won || received);	/* refused only when the recovery was faster */
		atomic { s = 0; g = 0; won = false; received = false }
#ifdef HOST_SENDS
	:: atomic { if EACH_SLOT(HAS_OWN, s) fi; g = mine[s]; mine[s] = 0;
#ifdef NO_LINK_LOCK
		goto sends };
sends:		atomic { skip;
#endif
		owner[s] = DYING; holder[s] = DYING; to_guest[s] = g; s = 0; g = 0 }
#endif
	:: atomic { marked && NOTHING(0) && NOTHING(1) && NOTHING(SLOTS - 1) -> break }
	od;
	live_done = true
}

proctype dying()
{
	byte mine[SLOTS];
	byte budget = BY_DYING;
	byte index, counter, next, s, g;
	bool won;

	{
	do
	:: budget > 0 && head_index != NONE -> allocate(DYING, s); got_one()
	:: atomic { if EACH_SLOT(HAS, s) fi; g = mine[s]; mine[s] = 0 };
		free_slot(DYING, s, g, won);
		assert(won);
		atomic { s = 0; g = 0; won = false }
	:: atomic { if EACH_SLOT(HAS, s) fi;		/* commit: from now on it is the host's */
		to_host[s] = mine[s]; holder[s] = LIVE; mine[s] = 0; s = 0 }
	:: atomic { if EACH_SLOT(IN_TO_GUEST, s) fi; mine[s] = to_guest[s]; to_guest[s] = 0; s = 0 }
	od
	} unless { kill };
	atomic {		/* what it had in its registers is gone */
		index = 0; counter = 0; next = 0; s = 0; g = 0; won = false; budget = 0;
		mine[0] = 0; mine[1] = 0; mine[SLOTS - 1] = 0;
		dead = true
	}
}

inline take_whole_list()
{
	do
	:: load_head();
		if
		:: atomic { HEAD_UNCHANGED -> head_index = NONE; head_counter++; first = index };
			break
		:: atomic { else -> skip }
		fi
	od;
	atomic {			/* no one else's now, so one step */
		index = 0; counter = 0; last = NONE; next = first; i = 0; on_list = false;
		do
		:: next != NONE ->
			assert(i < SLOTS);			/* never circular */
			on_list = on_list || next == s; i++; last = next; next = next_free[next]
		:: else -> i = 0; break
		od
	}
}

/* Is the slot that the dead's intent names in nobody's hands? */
inline settle_suspect()
{
	s = intent[DYING];
	atomic { g = generation[s]; won = !allocated[s] };
	if
	:: !won -> intent[DYING] = NONE
	:: won && intent[LIVE] == s -> intent[LIVE] != s	/* parked until then */
	:: else ->
		take_whole_list();
#ifndef NO_RECHECK
		won = (intent[LIVE] != s);		/* else parked: tried again */
#endif
		if
		:: won ->
			won = (!on_list && !allocated[s] && generation[s] == g);
			intent[DYING] = NONE
		:: else -> skip
		fi;
		if
		:: first != NONE -> push(first, last)
		:: else -> skip
		fi;
		if
		:: won -> assert(holder[s] == DYING);		/* it was really lost */
			owner[s] = NOBODY; push(s, s)
		:: else -> skip
		fi
	fi
}

proctype recovery()
{
	byte index, counter, next, s, g, i, first, last;
	bool won, on_list;

	kill = true;				/* at any step of the others */
	dead;
	atomic {				/* Goodbye; what is unread is held from now on */
		goodbye = true; marked = true;
		do
		:: i < SLOTS -> held[i] = held[i] || to_host[i] != 0; to_guest[i] = 0; i++
		:: else -> i = 0; break
		od
	};
	do					/* free what the dead owns and we do not hold */
	:: s < SLOTS ->
		atomic { g = generation[s]; won = allocated[s] };	/* before the owner */
		if
		:: won && owner[s] == DYING ->
			if
			:: !held[s] -> free_slot(RECOVERY, s, g, won)
			:: else -> skip
			fi
		:: else -> skip
		fi;
		s++
	:: else -> s = 0; break
	od;
	do
	:: intent[DYING] != NONE -> settle_suspect()
	:: else -> break
	od;

	live_done;				/* now every slot is back, once */
	next = head_index; i = 0;
	do
	:: next != NONE && i <= SLOTS ->
		assert(!allocated[next] && owner[next] == NOBODY && holder[next] == NOBODY);
		next = next_free[next]; i++
	:: else -> break
	od;
	assert(i == SLOTS)			/* none is lost, none is there twice */
}

init
{
	atomic {
		byte i = 0;
		do
		:: i < SLOTS -> next_free[i] = (i + 1 < SLOTS -> i + 1 : NONE); i++
		:: else -> break
		od;
		run live(); run dying(); run recovery()
	}
}
