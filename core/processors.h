/* The processors that this process may use. */
#ifndef FR_CORE_PROCESSORS_H
#define FR_CORE_PROCESSORS_H

/* Those that its affinity mask allows, hardware threads of a core each counted; at least 1. */
int fr_processors(void);
/* Physical cores of those, at least 1. */
int fr_physical_cores(void);

#endif
