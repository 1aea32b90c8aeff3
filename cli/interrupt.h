/* SIGINT (Ctrl-C) and SIGTERM, which count alike. Before fr_cli_interrupt_defer it ends the program immediately. After it, the
 * first asks the running command to end after its cycle with a complete result, and the second ends the program immediately. Exit
 * code 130. */
#ifndef FR_CLI_INTERRUPT_H
#define FR_CLI_INTERRUPT_H

#include <stdbool.h>

void fr_cli_interrupt_install(void);
void fr_cli_interrupt_defer(void);
bool fr_cli_interrupted(void);
/* For chat: the next SIGINT counts as the first again. */
void fr_cli_interrupt_forget(void);
/* Whether a read that is interrupted by SIGINT fails with EINTR, or is restarted. */
void fr_cli_interrupt_break_reads(bool breaks);

#endif
