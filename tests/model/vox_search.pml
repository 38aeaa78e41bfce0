/*
 * Finding slots in nobody's hands, as lib/vox/pool_search.c does it, while other guests live.
 *
 * What it models.  The free list and the slots as in vox_pool.pml.  Guest DEAD has two threads
 * that allocate and free, SENDER and RECEIVER, each with an intent word of its own; both are
 * killed at any step of theirs.  PEER is a thread of another guest, HOST one of the host's: they
 * live, and allocate and free all the time.  RECOVERY is the host's: it frees what DEAD owns;
 * takes DEAD's intents over as suspects, and clears them; then it searches, in passes, until no
 * suspect is left.  A pass, of all suspects at once:
 *
 *	load {generation, state} of each: a slot that is not free is no suspect any more
 *	load the living intents: what they name is parked, for the next pass
 *	take the whole list
 *	load the living intents again: the same
 *	each suspect that is not parked, not on the list and whose word is unchanged was lost: it
 *	goes before the list; then the list is given back with one push
 *
 * After the first pass a successor has DEAD's place: its thread uses the same intent word and
 * allocates and frees as the same owner.  With PEER_DIES, PEER is killed too, at any step, and
 * recovered after the first pass, when what DEAD left may still be parked.
 *
 * What must hold.  As in vox_pool.pml: nobody pops a slot that somebody has, nobody frees one
 * that is not his; what the search calls lost is in nobody's hands; in the end all slots are on
 * the list, free, without an owner, and no suspect is left.
 *
 * What is abstracted.  The first pass, and with PEER_DIES the second, come at any time; of further
 * ones MOST_PASSES while others are at work, and as many as are needed afterwards.  Each thread
 * allocates a bounded number of times.  So neither a generation nor the counter of free_head comes
 * back.  Sending is left to vox_pool.pml.
 *
 * NO_FIRST_LOOK   a fault: the living intents are not loaded before the list is taken
 * NO_SECOND_LOOK  a fault: ... nor after
 * NO_WORD_CHECK   a fault: {generation, state} is not compared with what it was
 * ONE_INTENT      a fault: SENDER and RECEIVER share a word
 * NOT_PARKED      a fault: a suspect that a living intent names is forgotten
 */
#ifndef SLOTS
#define SLOTS 2
#endif
#ifndef BY_HOST
#define BY_HOST 0
#endif
#ifndef BY_PEER
#define BY_PEER 1
#endif
#ifndef BY_SENDER
#define BY_SENDER 1
#endif
#ifndef BY_RECEIVER
#define BY_RECEIVER 0
#endif
#ifndef BY_SUCCESSOR
#define BY_SUCCESSOR 0
#endif

#ifndef MOST_PASSES
#define MOST_PASSES 2
#endif

#define NONE 255			/* no slot; end of the list */
#define NOBODY 0			/* also as an owner: what is free, and the host's */
#define HOST 1
#define PEER 2
#define SENDER 3			/* of DEAD; then the successor's thread */
#define RECEIVER 4
#define RECOVERY 5
#define THREADS 6

#ifdef ONE_INTENT
#define WORD(me) (me == RECEIVER -> SENDER : me)
#else
#define WORD(me) me
#endif
/* Threads of a guest own as their guest; the host's slots are kept apart from free ones. */
#define OWNER(me) (me == RECEIVER -> SENDER : me)
#define MAY_FREE(me, s) (holder[s] == me || \
	(me == RECOVERY && (holder[s] == SENDER || holder[s] == RECEIVER || holder[s] == PEER)))

#ifdef PEER_DIES
#define LIVING_PEERS 0
#else
#define LIVING_PEERS 1
#endif
#define WORKERS ((BY_HOST > 0) + LIVING_PEERS + (BY_SUCCESSOR > 0))

byte head_index, head_counter;		/* one 64-bit word */
byte generation[SLOTS];
bool allocated[SLOTS];			/* with generation: one 64-bit word */
byte owner[SLOTS], next_free[SLOTS];
byte intent[THREADS] = NONE;

byte holder[SLOTS];			/* ghost: who has the slot in his hands */
bool kill_dead, kill_peer;		/* from now on, at any step */
byte gone;				/* threads that were killed */
byte done;				/* threads that came to their end */
bool peer_is_dead;

/* 32 bits wide in truth: here it must not come back, for that would be an ABA of the model alone. */
#define COUNT assert(head_counter < 255); head_counter++

#include "vox_pool_list.pml"

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

/* Allocates up to `budget` times, frees in any order, and ends with nothing. */
inline work(me)
{
	do
	:: budget > 0 && head_index != NONE -> allocate(me, s); got_one()
	:: atomic { if
		:: HAS(0) -> s = 0
		:: SLOTS > 1 && HAS(1 % SLOTS) -> s = 1 % SLOTS
		:: SLOTS > 2 && HAS(2 % SLOTS) -> s = 2 % SLOTS
		fi;
		g = mine[s]; mine[s] = 0 };
		free_slot(me, s, g, won);
		assert(won);
		atomic { s = 0; g = 0; won = false }
	:: atomic { !HAS(0) && !HAS(1 % SLOTS) && !HAS(2 % SLOTS) -> break }
	od
}

inline forget()
{
	atomic {
		index = 0; counter = 0; next = 0; s = 0; g = 0; won = false; budget = 0;
		mine[0] = 0; mine[1 % SLOTS] = 0; mine[2 % SLOTS] = 0
	}
}

proctype living(byte me, budget)
{
	byte mine[SLOTS];		/* generation of what this thread holds */
	byte index, counter, next, s, g;
	bool won;

	work(me);
	atomic { forget(); done++ }
}

proctype doomed(byte me, budget)
{
	byte mine[SLOTS];
	byte index, counter, next, s, g;
	bool won;

	{
		work(me)
	} unless { kill_dead };
	atomic { forget(); gone++ }
}

#ifdef PEER_DIES
proctype peer(byte budget)
{
	byte mine[SLOTS];
	byte index, counter, next, s, g;
	bool won;

	{
		work(PEER)
	} unless { kill_peer };
	atomic { forget(); peer_is_dead = true }
}
#endif

inline take_whole_list()
{
	do
	:: load_head();
		if
		:: atomic { HEAD_UNCHANGED -> head_index = NONE; COUNT; first = index };
			break
		:: atomic { else -> skip }
		fi
	od;
	atomic {			/* no one else's now, so one step */
		index = 0; counter = 0; last = NONE; next = first; s = 0;
		do
		:: next != NONE ->
			assert(s < SLOTS && !listed[next]);	/* never circular */
			listed[next] = true; s++; last = next; next = next_free[next]
		:: else -> s = 0; next = 0; break
		od
	}
}

/* Free what a dead guest owns. */
inline reclaim(dead)
{
	s = 0;
	do
	:: s < SLOTS ->
		atomic { g = generation[s]; won = allocated[s] };	/* before the owner */
		if
		:: won && owner[s] == dead -> free_slot(RECOVERY, s, g, won)
		:: else -> skip
		fi;
		s++
	:: else -> atomic { s = 0; g = 0; won = false; break }
	od
}

/* A thread's intent becomes a suspect. */
inline take_over(me)
{
	atomic {
		if
		:: intent[WORD(me)] != NONE -> suspect[intent[WORD(me)]] = true
		:: else -> skip
		fi
	};
	intent[WORD(me)] = NONE
}

/* Each word is loaded in a step of its own. */
inline look_at_intents()
{
	t = HOST;
	do
	:: t <= RECEIVER ->
		atomic {
			if
			:: intent[t] != NONE && suspect[intent[t]] -> named[intent[t]] = true
			:: else -> skip
			fi;
			t++
		}
	:: else -> t = 0; break
	od
}

inline look_at_slots()
{
	s = 0;
	do
	:: s < SLOTS ->
		atomic {
			if
			:: suspect[s] && !allocated[s] -> word[s] = generation[s]
			:: else -> suspect[s] = false
			fi;
			s++
		}
	:: else -> s = 0; break
	od
}

#ifdef NO_WORD_CHECK
#define WORD_UNCHANGED true
#else
#define WORD_UNCHANGED (!allocated[s] && generation[s] == word[s])
#endif

inline find_lost()
{
	s = 0;
	do
	:: s < SLOTS && suspect[s] && !named[s] ->
		atomic { suspect[s] = false; won = !listed[s] && WORD_UNCHANGED };
		if
		:: won ->
			/* It was really lost. */
			assert(holder[s] == SENDER || holder[s] == RECEIVER || holder[s] == PEER);
			assert(!allocated[s]);
			owner[s] = NOBODY;
			next_free[s] = first;
			atomic {
				holder[s] = NOBODY;	/* on a list that only we have */
				first = s;
				if
				:: last == NONE -> last = s
				:: else -> skip
				fi
			}
		:: else -> skip
		fi;
		s++
	:: s < SLOTS && !(suspect[s] && !named[s]) ->
#ifdef NOT_PARKED
		suspect[s] = false;
#endif
		s++
	:: s >= SLOTS -> atomic { s = 0; won = false; break }
	od
}

#define IS_NAMED(s) (intent[HOST] == s || intent[PEER] == s || intent[SENDER] == s || \
	intent[RECEIVER] == s)
#define PARKED (SLOTS > 0 && suspect[0] && IS_NAMED(0) || \
	SLOTS > 1 && suspect[1 % SLOTS] && IS_NAMED(1) || \
	SLOTS > 2 && suspect[2 % SLOTS] && IS_NAMED(2))
#define ANY_SUSPECT (suspect[0] || suspect[1 % SLOTS] || suspect[2 % SLOTS])

inline clear_marks()
{
	atomic {
		s = 0;
		do
		:: s < SLOTS -> named[s] = false; listed[s] = false; word[s] = 0; s++
		:: else -> s = 0; break
		od;
		first = NONE; last = NONE
	}
}

inline pass()
{
	look_at_slots();
	if
	:: ANY_SUSPECT ->
#ifndef NO_FIRST_LOOK
		look_at_intents();
#endif
		take_whole_list();
#ifndef NO_SECOND_LOOK
		look_at_intents();
#endif
		find_lost();
		if
		:: first != NONE -> push(first, last)
		:: else -> skip
		fi;
		clear_marks()
	:: else -> skip
	fi
}

proctype recovery()
{
	byte index, counter, next, s, g, t, first = NONE, last = NONE;
	byte word[SLOTS];
	bool won, suspect[SLOTS], named[SLOTS], listed[SLOTS];
	byte passes;

	kill_dead = true;
	gone == 2;
	reclaim(SENDER);
	take_over(SENDER);
	take_over(RECEIVER);
	pass();
#if BY_SUCCESSOR
	run living(SENDER, BY_SUCCESSOR);
#endif
#ifdef PEER_DIES
	kill_peer = true;
	peer_is_dead;
	reclaim(PEER);
	take_over(PEER);
	pass();
#endif
	do
	:: ANY_SUSPECT && !PARKED && passes < MOST_PASSES -> passes++; pass()
	:: ANY_SUSPECT && done == WORKERS -> pass()
	:: !ANY_SUSPECT -> break
	od;
	atomic { passes = 0 }

	done == WORKERS;			/* now every slot is back, once */
	next = head_index; s = 0;
	do
	:: next != NONE && s <= SLOTS ->
		assert(!allocated[next] && owner[next] == NOBODY && holder[next] == NOBODY);
		next = next_free[next]; s++
	:: else -> break
	od;
	assert(s == SLOTS)			/* none is lost, none is there twice */
}

init
{
	atomic {
		byte i = 0;
		do
		:: i < SLOTS -> next_free[i] = (i + 1 < SLOTS -> i + 1 : NONE); i++
		:: else -> break
		od;
#if BY_HOST
		run living(HOST, BY_HOST);
#endif
#ifdef PEER_DIES
		run peer(BY_PEER);
#else
		run living(PEER, BY_PEER);
#endif
		run doomed(SENDER, BY_SENDER);
		run doomed(RECEIVER, BY_RECEIVER);
		run recovery()
	}
}
