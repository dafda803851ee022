/* A library with a statically defined probe, written out as <sys/sdt.h> would, which not every machine has. */
void probe(int value)
{
	__asm__ volatile(
		"990: nop\n"
		".pushsection .note.stapsdt, \"\", \"note\"\n"
		".balign 4\n"
		".4byte 992f - 991f, 994f - 993f, 3\n"
		"991: .asciz \"stapsdt\"\n"
		"992: .balign 4\n"
		"993: .8byte 990b, _.stapsdt.base, 0\n"
		".asciz \"hatch_bpf\"\n"
		".asciz \"probe\"\n"
		".asciz \"-4@%0\"\n"
		"994: .balign 4\n"
		".popsection\n"
		".pushsection .stapsdt.base, \"aG\", \"progbits\", .stapsdt.base, comdat\n"
		".weak _.stapsdt.base\n"
		".hidden _.stapsdt.base\n"
		"_.stapsdt.base: .space 1\n"
		".size _.stapsdt.base, 1\n"
		".popsection\n"
		: : "r"(value));
}
