#include "cli/interrupt.h"

#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "cli/message.h"

static volatile sig_atomic_t deferred, asked;

static void on_interrupt(int signal_number) {
    (void)signal_number;
    if (!deferred || asked) _exit(FR_EXIT_INTERRUPTED);
    asked = 1;
}

void fr_cli_interrupt_install(void) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_interrupt;
    action.sa_flags = SA_RESTART; /* a write in progress is finished: the result stays whole */
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
}

void fr_cli_interrupt_defer(void) {
    deferred = 1;
}

bool fr_cli_interrupted(void) {
    return asked != 0;
}
