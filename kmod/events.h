/* SPDX-License-Identifier: GPL-2.0-only */
/* The module's tracepoints: a link's life, and each ring. */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM voxshm

#if !defined(VOXSHM_EVENTS_H) || defined(TRACE_HEADER_MULTI_READ)
#define VOXSHM_EVENTS_H

#include <linux/tracepoint.h>

DECLARE_EVENT_CLASS(voxshm_peer,
		    TP_PROTO(u32 peer, u32 epoch, bool host),
		    TP_ARGS(peer, epoch, host),
		    TP_STRUCT__entry(__field(u32, peer)
				     __field(u32, epoch)
				     __field(bool, host)),
		    TP_fast_assign(__entry->peer = peer;
				   __entry->epoch = epoch;
				   __entry->host = host;),
		    TP_printk("peer=%u epoch=%u by=%s", __entry->peer, __entry->epoch,
			      __entry->host ? "host" : "guest")
);

DEFINE_EVENT(voxshm_peer, voxshm_link,
	     TP_PROTO(u32 peer, u32 epoch, bool host), TP_ARGS(peer, epoch, host));
DEFINE_EVENT(voxshm_peer, voxshm_claim,
	     TP_PROTO(u32 peer, u32 epoch, bool host), TP_ARGS(peer, epoch, host));
DEFINE_EVENT(voxshm_peer, voxshm_ring,
	     TP_PROTO(u32 peer, u32 epoch, bool host), TP_ARGS(peer, epoch, host));

TRACE_EVENT(voxshm_end,
	    TP_PROTO(u32 peer, u32 epoch, bool host, u32 how, int exit_code),
	    TP_ARGS(peer, epoch, host, how, exit_code),
	    TP_STRUCT__entry(__field(u32, peer)
			     __field(u32, epoch)
			     __field(bool, host)
			     __field(u32, how)
			     __field(int, exit_code)),
	    TP_fast_assign(__entry->peer = peer;
			   __entry->epoch = epoch;
			   __entry->host = host;
			   __entry->how = how;
			   __entry->exit_code = exit_code;),
	    TP_printk("peer=%u epoch=%u end=%s how=%u exit_code=%d", __entry->peer,
		      __entry->epoch, __entry->host ? "host" : "guest", __entry->how,
		      __entry->exit_code)
);

#endif

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE events
#include <trace/define_trace.h>
