/* Files that are mapped for reading. When a part of one cannot be read any more (another program has cut the file, or the disk
 * failed) the system raises SIGBUS in the thread that touches it. With fr_mapping_guard that thread goes on with zeros, and the
 * mapping remembers: whoever reads mapped files asks for that before it uses what came out. */
#ifndef FR_CORE_MAPPING_H
#define FR_CORE_MAPPING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct fr_mapping fr_mapping;

/* Maps a file, whose descriptor may then be closed. NULL: errno says why not. */
fr_mapping *fr_mapping_open(int fd, uint64_t bytes);
void fr_mapping_close(fr_mapping *mapping); /* takes NULL */
void *fr_mapping_bytes(const fr_mapping *mapping);

/* Whether something of it could not be read, and the offset of what was touched first. What comes behind that is zeros from then
 * on, in all that the mapping is used for. Any thread; a mapping that is lost once is lost for good. */
bool fr_mapping_is_lost(const fr_mapping *mapping, uint64_t *offset);
/* Whether any mapping of this process has ever been lost: one look for all. */
bool fr_mapping_any_lost(void);

/* Installs the handler of SIGBUS, for the whole process and for good, unless it is there. Other causes of SIGBUS go to the
 * handler that was there before. False: errno says why not. */
bool fr_mapping_guard(void);

#endif
