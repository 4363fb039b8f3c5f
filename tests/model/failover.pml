/*
 * Who may write, and what of it is valid: leases, planned and emergency failover, the return of an old active.
 *
 * One namespace, three clusters, one coordination store. Each action below is one transaction, of the store or of a
 * cluster's log, and runs alone; everything between two actions may happen in any order, so a process that is paused,
 * cut off or down is one that is not chosen for a while. README.md says what is left out, and why.
 *
 * Bounds: EPOCHS (the first one included), BATCHES per cluster, PLANS (planned failovers).
 * LIVE: the run that looks for drains without an end. BUG_...: one planted error, see test_model.py.
 */

#ifndef EPOCHS
#define EPOCHS 3
#endif
#ifndef BATCHES
#define BATCHES 2
#endif
#ifndef PLANS
#define PLANS 1
#endif

#define CLUSTERS 3
#define NOBODY 3
#define ENDLESS 15

/* ---- the coordination store ------------------------------------------------------------------------------- */

/* The routing document with its history: epoch k belongs to owner[k] and began with the cut (cutE[k], cutS[k]). */
byte epoch = 1;
byte owner[EPOCHS + 1];
byte cutE[EPOCHS + 1];
byte cutS[EPOCHS + 1];
bit by_emergency[EPOCHS + 1]; /* for the properties only: how the epoch began */
#ifdef BUG_CUT_BY_VECTOR
byte cutV[(EPOCHS + 1) * CLUSTERS];
#endif

/* The claim on the namespace, which lives by its holder's lease. Where it is taken away (revoked by an emergency, or
   deleted by a planned promotion) its holder may go by it for up to a ttl more; `recent` until that time has passed,
   whatever becomes of the failover that took it. */
byte lease = NOBODY;
bit recent;

/* The planned failover. */
#define UNPLANNED 0
#define APPROVED 1
#define DRAINING 2
#define DRAINED 3
#define PROMOTED 4
#define ABORTED 5
byte plan = UNPLANNED;
byte source, target, expected; /* the epoch that was planned for */
bit token;                     /* the source has confirmed its demotion ... */
byte barrier;                  /* ... at this sequence of its own log */
byte plans;
#define SOURCE_CLOSED (plan == DRAINING || plan == DRAINED)

/* The emergency failover. */
#define CALM 0
#define FENCING 1 /* nobody may claim the namespace; the old lease ends */
#define CUT 2     /* the lease is gone; the target has stopped applying and named its cut */
byte emergency = CALM;
byte heir, deposed_epoch;
byte ecutE, ecutS;

/* ---- the clusters ----------------------------------------------------------------------------------------- */

/* Durable. A log is gapless and its batches never change (I3), so what a cluster holds of an origin is a number. */
byte have[CLUSTERS * CLUSTERS];
#define HAVE(c, o) have[(c) * CLUSTERS + (o)]
byte stamped[CLUSTERS * BATCHES]; /* the epoch of each batch of each origin */
#define STAMP(o, s) stamped[(o) * BATCHES + (s) - 1]
byte installed[CLUSTERS]; /* length of the epoch history that the log holds (I2) */
bit acked[CLUSTERS * BATCHES]; /* for the properties only: the producer has been told */
#define ACKED(o, s) acked[(o) * BATCHES + (s) - 1]

/* Gone with the process. */
bit holds[CLUSTERS];  /* the claim was made and its lease has not ended, by this process's own clock */
bit closed[CLUSTERS]; /* for a drain */
#define IDLE 0
#define ADMITTED 1
#define APPENDED 2
byte write[CLUSTERS]; /* the one write under way at each cluster ... */
byte under[CLUSTERS]; /* ... and the epoch that it was admitted under */

bit named;     /* a target has been chosen; until then the two passive clusters are the same, and the first is it */
#ifdef LIVE
byte crashes;
#endif
#ifdef BUG_PROMOTE_UNCHECKED
bit saw_drained; /* a caller's reading; with the compare-and-set it does not matter how old a reading is */
#endif
#ifdef BUG_UNDO_WITHOUT_CAS
bit undone;
#define BUT_NOT_UNDONE && !undone
#else
#define BUT_NOT_UNDONE
#endif

/* ---- validity, cut, prefix (protocol.md, sections 1 and 3) ------------------------------------------------- */

hidden byte i, j, o, s, e, end, mostE, mostS, leastE, leastS, prefixE, prefixS;
hidden byte ok;
hidden byte before[CLUSTERS * BATCHES];

#define BEFORE(aE, aS, bE, bS) ((aE) < (bE) || ((aE) == (bE) && (aS) < (bS)))

/* ok: whether (at, seq) is valid by the first `known` epochs: within the cut of every later one. */
inline decide_valid(at, seq, known) {
	ok = true;
	i = at + 1;
	do
	:: i <= known ->
#ifdef BUG_CUT_BY_VECTOR
		ok = ok && (seq) <= cutV[i * CLUSTERS + owner[at]];
#else
		ok = ok && !BEFORE(cutE[i], cutS[i], at, seq);
#endif
#ifdef BUG_ONLY_NEXT_OWNERSHIP
		break
#else
		i++
#endif
	:: else -> break
	od
}

/* end: the last sequence of epoch `at` that may be valid by the first `known` epochs. */
inline find_end(at, known) {
	end = ENDLESS;
	i = at + 1;
	do
	:: i <= known ->
		if
		:: cutE[i] < at -> end = 0
		:: cutE[i] == at && cutS[i] < end -> end = cutS[i]
		:: else
		fi;
#ifdef BUG_ONLY_NEXT_OWNERSHIP
		break
#else
		i++
#endif
	:: else -> break
	od
}

/* (prefixE, prefixS): the end of the unbroken prefix at cluster c. */
inline find_prefix(c) {
	prefixE = 0;
	prefixS = 0;
	j = 1;
	do
	:: j <= installed[c] ->
		find_end(j, installed[c]);
		if
		:: end == 0
		:: else ->
			prefixE = j;
			prefixS = (HAVE(c, owner[j]) < end -> HAVE(c, owner[j]) : end);
			if
			:: end == ENDLESS || prefixS < end -> break /* something may be missing here: nothing later is in order */
			:: else
			fi
		fi;
		j++
	:: else -> break
	od
}

/* ---- the switch ------------------------------------------------------------------------------------------- */

/* Owner, epoch and cut of the compare-and-set; the callers add their own record to it (I8). */
inline move_ownership(to, lastE, lastS, in_emergency) {
	remember_valid();
	epoch++;
	owner[epoch] = to;
	cutE[epoch] = lastE;
	cutS[epoch] = lastS;
	by_emergency[epoch] = in_emergency;
#ifdef BUG_CUT_BY_VECTOR
	o = 0;
	do
	:: o < CLUSTERS -> cutV[epoch * CLUSTERS + o] = HAVE(to, o); o++
	:: else -> break
	od;
#endif
#ifndef BUG_PROMOTION_IS_NO_REVOCATION
	recent = recent || lease != NOBODY;
#endif
	lease = NOBODY;
	check_switch(to, in_emergency)
}

inline remember_valid() {
	o = 0;
	do
	:: o < CLUSTERS ->
		s = 1;
		do
		:: s <= HAVE(o, o) ->
			e = STAMP(o, s);
			decide_valid(e, s, epoch);
			before[o * BATCHES + s - 1] = ok;
			s++
		:: else -> break
		od;
		o++
	:: else -> break
	od
}

inline check_switch(to, in_emergency) {
	/* I1: the old active has stopped admitting before the new one may begin. */
	assert(!holds[owner[epoch - 1]] || closed[owner[epoch - 1]]);

	mostE = 0; mostS = 0; leastE = ENDLESS; leastS = 0;
	o = 0;
	do
	:: o < CLUSTERS ->
		s = 1;
		do
		:: s <= HAVE(o, o) ->
			e = STAMP(o, s);
			decide_valid(e, s, epoch);
			if
			:: ok ->
				/* I5, I6, I9: the new active has all that stays valid. What it lacked, producers would send again. */
				assert(HAVE(to, o) >= s);
				if
				:: BEFORE(mostE, mostS, e, s) -> mostE = e; mostS = s
				:: else
				fi
			:: !ok && before[o * BATCHES + s - 1] ->
				/* I9: a planned failover loses nothing that was acknowledged; an emergency's tail is beyond its cut. */
				assert(in_emergency || !ACKED(o, s));
				if
				:: BEFORE(e, s, leastE, leastS) -> leastE = e; leastS = s
				:: else
				fi
			:: else
			fi;
			s++
		:: else -> break
		od;
		o++
	:: else -> break
	od;
	/* I6: what a switch cuts off is an end of the order. A hole would be lost: its followers prove it replicated. */
	assert(leastE == ENDLESS || BEFORE(mostE, mostS, leastE, leastS));

#ifndef BUG_CUT_BY_VECTOR
	/* The definition of the cut; with it I9: the target's prefix ends at the barrier. Nothing that the target has
	   confirmed as in its prefix (an acknowledgement of level `remote`) is cut off by its own promotion (I4). */
	assert(installed[to] == epoch - 1);
	find_prefix(to);
	assert(prefixE == cutE[epoch] && prefixS == cutS[epoch]);
#endif
}

/* I8: the failover's record, the owner, the epoch and the cut of any snapshot belong together. */
inline check_snapshot() {
	assert(plan != PROMOTED || (epoch > expected && owner[expected + 1] == target && !by_emergency[expected + 1] &&
		cutE[expected + 1] == expected && cutS[expected + 1] == barrier));
	assert(!SOURCE_CLOSED || epoch == expected || by_emergency[expected + 1]);
	assert(owner[epoch] != NOBODY && (epoch == 1 || cutE[epoch] > 0));
	assert(lease == NOBODY || lease == owner[epoch])
}

/* ---- a cluster: writing ----------------------------------------------------------------------------------- */

/* What `Ownerships.still` asks: the epoch is the newest that this cluster knows, its own, and the lease has not ended.
   It cannot ask what the store would say now. */
#define STILL(c, e) (holds[c] && installed[c] == (e) && owner[e] == (c))

inline writing(c) {
	if
	:: d_step {
		write[c] == IDLE && HAVE(c, c) < BATCHES && !closed[c] && STILL(c, installed[c]) ->
		write[c] = ADMITTED;
		under[c] = installed[c]
	}
	:: d_step { /* I2: epoch check and append are one transaction of the log; the lease may have ended meanwhile */
		write[c] == ADMITTED && installed[c] == under[c] ->
		HAVE(c, c)++;
		STAMP(c, HAVE(c, c)) = under[c];
		write[c] = APPENDED;
		/* I1: a batch is valid only in its owner's log, and what comes after the epoch's end is not valid. */
		assert(owner[under[c]] == c);
		decide_valid(under[c], HAVE(c, c), epoch);
		assert(epoch == under[c] || !ok)
	}
	:: d_step { write[c] == ADMITTED && installed[c] != under[c] -> write[c] = IDLE; under[c] = 0 }
	:: d_step { /* section 5: asked again, and nothing is acknowledged that has been fenced */
#ifdef BUG_ACK_WITHOUT_LEASE
		write[c] == APPENDED && installed[c] == under[c] ->
#else
		write[c] == APPENDED && STILL(c, under[c]) ->
#endif
		decide_valid(under[c], HAVE(c, c), epoch);
		assert(ok);
		ACKED(c, HAVE(c, c)) = true;
		write[c] = IDLE;
		under[c] = 0
	}
	:: d_step { write[c] == APPENDED && !STILL(c, under[c]) -> write[c] = IDLE; under[c] = 0 }
	fi
}

/* ---- a cluster: its lease, and the epochs it knows --------------------------------------------------------- */

/* In a fence the namespace is not free: or who has lost its lease to a revocation would take it again at once. */
#ifdef BUG_CLAIM_DURING_FENCE
#define MAY_CLAIM (lease == NOBODY)
#else
#define MAY_CLAIM (lease == NOBODY && emergency == CALM)
#endif

inline install(c) {
	installed[c] = epoch;
	holds[c] = holds[c] && owner[epoch] == c
}

inline keeping(c) {
	if
	:: d_step { installed[c] < epoch -> install(c) }
	:: d_step { /* claims; or goes on with the claim that it, or its former process, still has */
		owner[epoch] == c && installed[c] == epoch && ((lease == c && !holds[c]) || MAY_CLAIM) ->
		lease = c;
		holds[c] = true
	}
	fi
}

#define AWAY(c) (!holds[c] || lease == (c))

/* The holder counts from before it sent its renewal, the store from when it got it: the holder's end comes first
   (section 5). Renewal itself is no action: a lease that is renewed is one that does not end. */
inline time_passes() {
	if
	:: d_step { holds[0] -> holds[0] = false }
	:: d_step { holds[1] -> holds[1] = false }
	:: d_step { holds[2] -> holds[2] = false }
	:: d_step { /* the store's own end of it */
#ifdef BUG_NO_MARGIN
		lease != NOBODY ->
#else
		lease != NOBODY && !holds[lease] ->
#endif
		lease = NOBODY
	}
	:: d_step { /* after a full ttl, nobody can go any more by what was taken away: it can not have been renewed */
#ifdef BUG_REVOKED_CLAIM_RENEWED
		recent ->
#else
		recent && AWAY(0) && AWAY(1) && AWAY(2) ->
#endif
		recent = false
	}
	fi
}

/* ---- a cluster: replication ------------------------------------------------------------------------------- */

/* From the cut on the target applies nothing older than its own epoch, whichever cluster wrote it: also a late batch
   of an earlier owner moves the end of the prefix. */
#if defined(BUG_CUT_BEFORE_GATHER)
#define FROZEN(c, from) false
#elif defined(BUG_FREEZE_OLD_OWNER_ONLY)
#define FROZEN(c, from) (emergency == CUT && heir == (c) && (from) == owner[deposed_epoch])
#else
#define FROZEN(c, from) (emergency == CUT && heir == (c))
#endif

/* The next batch of `from`, from any peer that has it: that is `from` itself, or another (I3). */
inline receive(c, from) {
	d_step {
		!FROZEN(c, from) && HAVE(c, from) < HAVE(from, from) && STAMP(from, HAVE(c, from) + 1) <= installed[c] ->
		HAVE(c, from)++;
		assert(owner[STAMP(from, HAVE(c, from))] == from) /* I1: it would be refused as illegal */
	}
}

inline receiving(c) {
	if
	:: receive(c, (c + 1) % CLUSTERS)
	:: receive(c, (c + 2) % CLUSTERS)
	fi
}

/* ---- a cluster: its part in a planned failover ------------------------------------------------------------- */

#define DRAINED_HERE(c) (SOURCE_CLOSED && source == (c))

inline undo() {
	plan = ABORTED;
#ifndef BUG_PROMOTE_UNCHECKED
	source = 0;
	target = 0;
	expected = 0;
	token = false;
	barrier = 0
#endif
}

inline taking_part(c) {
	if
	:: d_step { DRAINED_HERE(c) && !closed[c] BUT_NOT_UNDONE -> closed[c] = true }
	:: d_step { /* I8: the reading that shows the end of the drain shows who owns the namespace now */
		!DRAINED_HERE(c) && closed[c] ->
#ifndef BUG_REOPENED_BY_RECORD
		install(c);
#endif
		closed[c] = false
	}
	:: d_step { /* what is in flight is committed; then barrier and token */
		DRAINED_HERE(c) && closed[c] && !token && write[c] != ADMITTED && STILL(c, expected) ->
		token = true;
		barrier = HAVE(c, c)
	}
	:: d_step { /* the target holds everything up to the barrier, and not only what the source wrote (I9) */
		plan == DRAINING && token && target == c && installed[c] == expected && HAVE(c, source) >= barrier ->
		find_prefix(c);
#ifdef BUG_REACHED_BY_ORIGIN
		plan = DRAINED
#else
		plan = (BEFORE(prefixE, prefixS, expected, barrier) -> DRAINING : DRAINED)
#endif
	}
#if defined(BUG_UNDO_WITHOUT_CAS)
	:: d_step { DRAINED_HERE(c) && closed[c] && !undone -> closed[c] = false; undone = true }
#elif !defined(BUG_NO_DEADLINE)
	:: d_step { DRAINED_HERE(c) -> undo() } /* I10: the deadline, which may be any moment, by compare-and-set */
#endif
	fi
}

/* The process dies and starts again: what it knew is gone, and it looks at the mesh before it admits anything. */
inline crashing(c) {
	d_step {
#ifdef LIVE
		crashes < 2 -> crashes++;
#else
		true ->
#endif
		holds[c] = false;
		write[c] = IDLE;
		under[c] = 0;
#ifdef BUG_RESTART_OPEN
		closed[c] = false
#else
		closed[c] = DRAINED_HERE(c)
#endif
	}
}

/* ---- whoever drives a planned failover: any number of callers, each of whom may stop anywhere ---------------- */

/* Until a target has been named, clusters 1 and 2 are interchangeable. */
#define MAY_NAME(c) (owner[epoch] != (c) && (named || (c) == 1))

inline planning(c) {
	d_step {
		(plan == UNPLANNED || plan == ABORTED || plan == PROMOTED) && plans < PLANS && epoch < EPOCHS && MAY_NAME(c) ->
		plans++;
		named = true;
		plan = APPROVED;
		source = owner[epoch];
		target = c;
		expected = epoch;
		token = false;
		barrier = 0
	}
}

inline promoting() {
#if defined(BUG_PROMOTE_UNCHECKED)
	if
	:: d_step { plan == DRAINED && !saw_drained -> saw_drained = true }
	:: d_step {
		saw_drained && epoch < EPOCHS ->
		saw_drained = false;
		move_ownership(target, expected, barrier, false);
		plan = PROMOTED
	}
	fi
#elif defined(BUG_SPLIT_SWITCH)
	if
	:: d_step { plan == DRAINED && epoch == expected -> move_ownership(target, expected, barrier, false) }
	:: d_step { plan == DRAINED && epoch != expected -> plan = PROMOTED }
	fi
#else
	d_step {
		plan == DRAINED && epoch == expected ->
		move_ownership(target, expected, barrier, false);
		plan = PROMOTED
	}
#endif
}

inline driving() {
	if
	:: planning(0)
	:: planning(1)
	:: planning(2)
	:: d_step { plan == APPROVED -> plan = DRAINING } /* its deadline begins with it: the undo is stored first (I10) */
	:: promoting()
	:: d_step { SOURCE_CLOSED -> undo() } /* a person's abort */
	fi
}

/* ---- whoever drives an emergency: it may be a mistake, and may be given up before promotion ------------------ */

inline deposing(c) {
	d_step {
		emergency == CALM && epoch < EPOCHS && MAY_NAME(c) ->
		named = true;
		emergency = FENCING;
		heir = c;
		deposed_epoch = epoch
	}
}

inline calm_down() {
	emergency = CALM;
	heir = 0;
	deposed_epoch = 0;
#ifdef BUG_REVOCATION_FORGOTTEN
	recent = false;
#endif
	ecutE = 0;
	ecutS = 0
}

inline emergency_driving() {
	if
	:: deposing(0)
	:: deposing(1)
	:: deposing(2)
	:: d_step { emergency == FENCING && lease != NOBODY -> lease = NOBODY; recent = true }
	:: d_step { /* fenced; the target reads its cut and takes nothing more (section 7) */
		emergency == FENCING && lease == NOBODY && !recent && installed[heir] == deposed_epoch ->
		find_prefix(heir);
		ecutE = prefixE;
		ecutS = prefixS;
		emergency = CUT
	}
	:: d_step {
#ifdef BUG_PROMOTE_UNCHECKED
		emergency == CUT && epoch < EPOCHS ->
#elif defined(BUG_CLAIM_DURING_FENCE)
		emergency == CUT && epoch == deposed_epoch ->
#else
		emergency == CUT && epoch == deposed_epoch && lease == NOBODY ->
#endif
		move_ownership(heir, ecutE, ecutS, true);
		calm_down()
	}
	:: d_step { emergency != CALM -> calm_down() }
	fi
}

/* ---- runs ------------------------------------------------------------------------------------------------- */

inline start() {
	d_step {
		owner[1] = 0;
		installed[0] = 1;
		installed[1] = 1;
		installed[2] = 1
	}
}

#ifndef LIVE

/* Safety: whatever can happen next, and a reader of the store who looks at any time. */
active proctype Mesh() {
	start();
	do
	:: writing(0) :: writing(1) :: writing(2)
	:: keeping(0) :: keeping(1) :: keeping(2)
	:: receiving(0) :: receiving(1) :: receiving(2)
	:: taking_part(0) :: taking_part(1) :: taking_part(2)
	:: crashing(0) :: crashing(1) :: crashing(2)
	:: time_passes()
	:: driving()
	:: emergency_driving()
	:: d_step { true -> check_snapshot() }
	od
}

#else

/* Liveness: whoever must act for a drain to end is a process of its own, and a process that can act goes on acting
   (weak fairness). Callers and the rest of the world owe nothing. */
proctype Agent(byte c) {
	do
	:: taking_part(c)
	od
}

active proctype Mesh() {
	start();
	atomic { run Agent(0); run Agent(1); run Agent(2) };
	do
	:: writing(0) :: writing(1) :: writing(2)
	:: keeping(0) :: keeping(1) :: keeping(2)
	:: receiving(0) :: receiving(1) :: receiving(2)
	:: crashing(0) :: crashing(1) :: crashing(2)
	:: time_passes()
	:: driving()
	:: emergency_driving()
	:: d_step { true -> check_snapshot() }
	od
}

/* I10: every drain ends, and then the source is open again, for what it owns. */
#define OPEN_AGAIN (!closed[0] && !closed[1] && !closed[2])
ltl drain_ends { [] (SOURCE_CLOSED -> <> (!SOURCE_CLOSED && OPEN_AGAIN)) }

#endif
