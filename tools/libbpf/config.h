/* What elfutils' configure would find on the targets of build.py, as far as libelf asks. */
#define PACKAGE_NAME "elfutils"
#define HAVE_ERR_H 1
#define HAVE_DECL_MEMPCPY 1
#define HAVE_DECL_MEMRCHR 1
#define HAVE_DECL_POWEROF2 1
#define HAVE_DECL_STRERROR_R 1
#define HAVE_GCC_STRUCT 0
#define HAVE_VISIBILITY 1
#define HAVE_ATTRIBUTE_VISIBILITY 1
#define STDC_HEADERS 1
#include <eu-config.h>
