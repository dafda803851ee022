/* It writes to its standard output (Linux 6.17). */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

/* the name in 6.17, and the one since */
extern int bpf_stream_vprintk(int stream_id, const char *fmt__str, const void *args, __u32 len__sz, void *aux__prog) __ksym __weak;
extern int bpf_stream_vprintk_impl(int stream_id, const char *fmt__str, const void *args, __u32 len__sz, void *aux__prog) __ksym __weak;

static const char format[] = "hatch writes %d\n";

SEC("tc")
int write(struct __sk_buff *skb)
{
	__u64 arguments[] = { 42 };

	if (bpf_stream_vprintk_impl)
		return bpf_stream_vprintk_impl(1, format, arguments, sizeof(arguments), 0);
	return bpf_stream_vprintk(1, format, arguments, sizeof(arguments), 0);
}

char _license[] SEC("license") = "GPL";
