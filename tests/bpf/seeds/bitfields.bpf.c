/* Bitfields of struct tcp_sock, which hardly two releases lay out alike, when a connection's first end is closed: read
 * directly and by probe reads in a tp_btf program, and by probe reads alone in its raw tracepoint twin. */
#include <linux/bpf.h>
#include <stdbool.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

struct sock_common {
	__be16 skc_dport;
	__u16 skc_num;
} __attribute__((preserve_access_index));

struct sock {
	struct sock_common __sk_common;
} __attribute__((preserve_access_index));

struct tcp_options_received {
	__u16 wscale_ok : 1;
	__u16 snd_wscale : 4;
	__u16 rcv_wscale : 4;
} __attribute__((preserve_access_index));

struct tcp_sock {
	struct tcp_options_received rx_opt;
	__u8 nonagle : 4;
	__u8 thin_lto : 1;
	__u8 recvmsg_inq : 1;
	__u8 is_cwnd_limited : 1;
} __attribute__((preserve_access_index));

struct bits {
	__u8 wscale_ok;
	__u8 snd_wscale;
	__u8 rcv_wscale;
	__u8 nonagle;
	__u8 thin_lto;
	__u8 recvmsg_inq;
	__u8 is_cwnd_limited;
	__u8 unused;
};

struct bits_event {
	__u16 sport;
	__u16 dport;
	struct bits direct; /* all zero from the raw tracepoint */
	struct bits probed;
};

struct bits_event *unused_bits_event __attribute__((unused));

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 64 * 1024);
} bits_events SEC(".maps");

#define TCP_FIN_WAIT1 4

#define READ_ALL(bits, tcp, READ)                                       \
	do {                                                            \
		(bits)->wscale_ok = READ(tcp, rx_opt.wscale_ok);        \
		(bits)->snd_wscale = READ(tcp, rx_opt.snd_wscale);      \
		(bits)->rcv_wscale = READ(tcp, rx_opt.rcv_wscale);      \
		(bits)->nonagle = READ(tcp, nonagle);                   \
		(bits)->thin_lto = READ(tcp, thin_lto);                 \
		(bits)->recvmsg_inq = READ(tcp, recvmsg_inq);           \
		(bits)->is_cwnd_limited = READ(tcp, is_cwnd_limited);   \
	} while (0)

static __always_inline void tell(struct sock *sk, struct tcp_sock *tcp, struct bits_event *event)
{
	event->sport = BPF_CORE_READ(sk, __sk_common.skc_num);
	event->dport = bpf_ntohs(BPF_CORE_READ(sk, __sk_common.skc_dport));
	READ_ALL(&event->probed, tcp, BPF_CORE_READ_BITFIELD_PROBED);
	bpf_ringbuf_output(&bits_events, event, sizeof(*event), 0);
}

SEC("?tp_btf/inet_sock_set_state")
int BPF_PROG(btf_set_state, struct sock *sk, int oldstate, int newstate)
{
	struct tcp_sock *tcp = bpf_skc_to_tcp_sock(sk);
	struct bits_event event = {};

	if (!tcp || newstate != TCP_FIN_WAIT1)
		return 0;
	READ_ALL(&event.direct, tcp, BPF_CORE_READ_BITFIELD);
	tell(sk, tcp, &event);
	return 0;
}

SEC("?raw_tp/inet_sock_set_state")
int BPF_PROG(raw_set_state, struct sock *sk, int oldstate, int newstate)
{
	struct bits_event event = {};

	if (newstate == TCP_FIN_WAIT1)
		tell(sk, (struct tcp_sock *)sk, &event);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
