/* Programs that are attached in other ways before Linux 5.7, and a text, which makes a section of static data alone. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("xdp")
int on_packet(struct xdp_md *ctx)
{
	return XDP_PASS;
}

SEC("xdp")
int on_packet_too(struct xdp_md *ctx)
{
	bpf_printk("a packet of %d bytes", ctx->data_end - ctx->data);
	return XDP_PASS;
}

SEC("cgroup_skb/egress")
int on_egress(struct __sk_buff *skb)
{
	return 1;
}

char LICENSE[] SEC("license") = "GPL";
