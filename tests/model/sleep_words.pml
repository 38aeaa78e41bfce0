/*
 * Sleep words and doorbells: nobody sleeps for ever over data or space that is there.
 *
 * What it models.  A ring with a sending thread on one side and a receiving thread on the other;
 * with TWO_THREADS a second ring the other way, so that each side has a sender (sleeps for space)
 * and a receiver (sleeps for data) with a sleep word each and ONE doorbell between them.
 * Sleep:   set the word, full barrier, look once more, wait on the doorbell, drain it, look.
 * Publish: store the index, full barrier, if the peer's word is seen set exchange it to 0, and
 *          ring the peer's doorbell only if the exchange took it.
 * Two threads of a side: one is leader and polls the doorbell, the other waits on a condition
 * variable.  A leader that has drained, or gives up (a timeout), ends its turn and makes the
 * other look again.  A thread that was told so after it began to arm does not wait.
 * A leader that wakes, has what it wants, and is not followed may leave the doorbell as it is:
 * it is drained before the side arms again.
 *
 * What must hold.  Every message arrives: when nothing can move any more, all threads are done.
 *
 * What is abstracted.  With STORE_BUFFER each thread has a one-entry store buffer for its index
 * and its sleep word, emptied at any later time or by a barrier or an exchange (x86).  Without
 * it stores are seen at once, which is what store and barrier amount to.  A private mutex makes
 * the leader's bookkeeping one step.  The number of messages is bounded.
 *
 * SOCKET            the doorbell is a byte stream: several tokens, drained in one or more reads
 * NO_PUBLISH_BARRIER, NO_SLEEP_BARRIER  faults, seen with STORE_BUFFER
 * DRAIN_AFTER       a fault: the doorbell is drained between the last look and the wait
 * NO_LOOK_AGAIN     a fault: each thread polls and drains for itself alone
 * LATE_SAMPLE       a fault: "look again" is forgotten after the last look, not before arming
 * NO_HANDOVER       a fault: a leader that gives up tells nobody
 * LATE_DRAIN        a fault: what was left undrained is drained after the last look
 * LEFT_FOLLOWER     a fault: the doorbell is left as it is although somebody follows
 */
#ifndef MESSAGES
#define MESSAGES 3
#endif
#ifndef ROOM
#define ROOM 1				/* messages that a ring holds */
#endif

/* Threads: side A 0 sends, 1 receives; side B 2 sends, 3 receives.  0 -> 3 and 2 -> 1. */
#define SIDE(t) ((t) / 2)
#define PEER(t) (3 - (t))
#define SIBLING(t) ((t) % 2 == 0 -> (t) + 1 : (t) - 1)
#define SENDS(t) ((t) % 2 == 0)
#ifdef TWO_THREADS
#define THREADS 4
#else
#define THREADS 2
#endif

byte index[4];				/* shared: written by the sender, read by the receiver */
bool word[4];				/* shared: "I sleep" */
byte doorbell[2];			/* per side */
bool leader[2], look_again[4];		/* private to a side */
bool undrained[2];			/* a leader left the doorbell */
byte followers[2];
bool gave_up;				/* one thread in all gives up, once */
byte finished;

bool buffered[4], buffered_word[4];	/* the store buffers */
byte buffered_value[4];

#ifdef STORE_BUFFER
inline store(t, to_word, value)
{
	atomic { !buffered[t] ->
		buffered[t] = true; buffered_word[t] = to_word; buffered_value[t] = value }
}
#define BARRIER !buffered[me]

proctype store_buffer(byte t)
{
end:	do
	:: d_step { buffered[t] ->
		if
		:: buffered_word[t] -> word[t] = buffered_value[t]
		:: else -> index[t] = buffered_value[t]
		fi;
		buffered[t] = false; buffered_word[t] = false; buffered_value[t] = 0 }
	od
}
#else
inline store(t, to_word, value)
{
	d_step {
		if
		:: to_word -> word[t] = value
		:: else -> index[t] = value
		fi
	}
}
#define BARRIER true
#endif

#ifdef NO_PUBLISH_BARRIER
#define PUBLISH_BARRIER true
#else
#define PUBLISH_BARRIER BARRIER
#endif
#ifdef NO_SLEEP_BARRIER
#define SLEEP_BARRIER true
#else
#define SLEEP_BARRIER BARRIER
#endif

/* One load of the peer's index: is there space, or data? */
#define CAN_GO (SENDS(me) -> own - index[PEER(me)] < ROOM : index[PEER(me)] > own)

inline ring()
{
#ifdef SOCKET
	if
	:: atomic { doorbell[SIDE(PEER(me))] < 3 -> doorbell[SIDE(PEER(me))]++ }
	:: atomic { else -> skip }		/* full: there is a token anyway */
	fi
#else
	doorbell[SIDE(PEER(me))] = 1
#endif
}

inline drain()
{
#ifdef SOCKET
	if
	:: doorbell[SIDE(me)] = 0
	:: atomic { doorbell[SIDE(me)] > 0 -> doorbell[SIDE(me)]-- }	/* a short read */
	fi
#else
	doorbell[SIDE(me)] = 0
#endif
}

/* Drains, as the only one or under the lock, and makes the other look again. */
inline drain_for_all()
{
	atomic { drain(); undrained[SIDE(me)] = false; look_again[SIBLING(me)] = true }
}

/* What a leader left. Another thread that polls now will drain. */
inline drain_what_was_left()
{
	if
	:: atomic { undrained[SIDE(me)] && !leader[SIDE(me)] -> drain_for_all() }
	:: atomic { else -> skip }
	fi
}

#ifdef LEFT_FOLLOWER
#define MAY_LEAVE true
#else
#define MAY_LEAVE (followers[SIDE(me)] == 0)
#endif

/* The leader has woken. */
inline leave_or_drain()
{
	if
	:: CAN_GO ->
		if
		:: atomic { MAY_LEAVE -> undrained[SIDE(me)] = true; leader[SIDE(me)] = false }
		:: atomic { else -> drain_for_all(); leader[SIDE(me)] = false }
		fi
	:: atomic { drain_for_all(); leader[SIDE(me)] = false }
	fi
}

inline wait()
{
#ifdef DRAIN_AFTER
	doorbell[SIDE(me)] = 0;
	doorbell[SIDE(me)] > 0
#elif defined(NO_LOOK_AGAIN)
	doorbell[SIDE(me)] > 0; drain()
#else
#ifdef LATE_DRAIN
	drain_what_was_left();
#endif
#ifdef LATE_SAMPLE
	look_again[me] = false;
#endif
	if
	:: atomic { look_again[me] -> skip }
	:: atomic { !look_again[me] && leader[SIDE(me)] -> followers[SIDE(me)]++ };
		atomic { look_again[me] -> followers[SIDE(me)]-- }
	:: atomic { !look_again[me] && !leader[SIDE(me)] -> leader[SIDE(me)] = true };
		if
		:: doorbell[SIDE(me)] > 0 -> leave_or_drain()
#ifdef TWO_THREADS
		:: atomic { !gave_up -> gave_up = true;
#ifndef NO_HANDOVER
			look_again[SIBLING(me)] = true;
#endif
			leader[SIDE(me)] = false };
			index[SIBLING(me)] == MESSAGES	/* comes back when the other is done */
#endif
		fi
	fi
#endif
}

proctype thread(byte me)
{
	byte own;			/* messages sent or received */
	bool slept, took;

	do
	:: own < MESSAGES ->
		do
		:: CAN_GO -> break
		:: else ->
#ifndef LATE_DRAIN
			drain_what_was_left();
#endif
			atomic {
				slept = true;
#ifndef LATE_SAMPLE
				look_again[me] = false	/* before arming: see LATE_SAMPLE */
#endif
			};
			store(me, true, 1);
			SLEEP_BARRIER;
			if
			:: CAN_GO -> break
			:: else -> wait()
			fi
		od;
		if
		:: slept -> store(me, true, 0); slept = false
		:: else -> skip
		fi;
		own++;
		store(me, false, own);
		PUBLISH_BARRIER;
		if
		:: word[PEER(me)] ->
			atomic { BARRIER -> took = word[PEER(me)]; word[PEER(me)] = 0 };
			if
			:: took -> took = false; ring()
			:: else -> skip
			fi
		:: else -> skip
		fi
	:: else -> break
	od;
	finished++
}

init
{
	atomic {
		run thread(0); run thread(3);
#ifdef TWO_THREADS
		run thread(1); run thread(2);
#endif
#ifdef STORE_BUFFER
		run store_buffer(0); run store_buffer(3);
#ifdef TWO_THREADS
		run store_buffer(1); run store_buffer(2);
#endif
#endif
	}
	timeout;
	assert(finished == THREADS)		/* nobody sleeps for ever */
}
