/* Ctrl-C. Before fr_cli_interrupt_defer the program ends at once; after it, the first SIGINT only asks the running
 * command to end after its cycle with a whole result, and the second ends the program at once. Exit code 130. */
#ifndef FR_CLI_INTERRUPT_H
#define FR_CLI_INTERRUPT_H

#include <stdbool.h>

void fr_cli_interrupt_install(void);
void fr_cli_interrupt_defer(void);
bool fr_cli_interrupted(void);
/* For a program that talks with its user: the next SIGINT is the first again. */
void fr_cli_interrupt_forget(void);
/* Whether a SIGINT breaks off reading, which then fails with EINTR; otherwise it is as if the read had not noticed. */
void fr_cli_interrupt_break_reads(bool breaks);

#endif
