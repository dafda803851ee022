/* A header of the project's own, which names types too. */
struct flow {
	u16 family;
	u16 sport;
	u16 dport;
	u16 unused;
	u32 daddr[4];
};

struct seen {
	u32 srtt;
	u32 length;
	u32 device;
	u32 net;
	u8 state;
};

static __always_inline u32 read_length(struct sk_buff *skb)
{
	struct tcphdr header = {};
	void *head = BPF_CORE_READ(skb, head);

	bpf_probe_read_kernel(&header, sizeof(header), head + BPF_CORE_READ(skb, transport_header));
	return BPF_CORE_READ(skb, len) - header.doff * 4;
}
