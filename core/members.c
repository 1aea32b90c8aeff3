#include "core/members.h"

/* How long a member stays out: longer each time that it was tried in vain, and no longer than a user would mind once the other
 * process has gone. */
static const double first_hold = 50e-3, longest_hold = 800e-3;

int fr_members_begin(fr_members *m, int threads, double now) {
    int most = threads > 1 ? threads - 1 : 0;
    if (m->out > most) m->out = most; /* a larger team missed more */
    if (m->out > 0 && now >= m->until) {
        m->out--;
        m->changed = now;
        m->until = now + m->hold;
    }
    return threads > m->out ? threads - m->out : 1;
}

int fr_members_end(fr_members *m, const double *lost, int count, double seconds, double now) {
    int worst = 0;
    for (int i = 1; i < count; i++)
        if (lost[i] > lost[worst]) worst = i;
    /* Without a member the others need count / (count - 1) of the time: that is better if it lost more than 1 / count. */
    if (count < 2 || lost[worst] < FR_MEMBERS_LEAST_LOST || lost[worst] * count < seconds) return -1;
    double whole = now - m->changed, hold = m->hold;
    if (whole > 10.0 * hold)
        hold = first_hold;
    else if (whole < hold)
        hold *= 4.0;
    if (hold > longest_hold) hold = longest_hold;
    double worked = seconds - lost[worst]; /* a process that was stopped for an hour need not do without for four */
    if (hold < 4.0 * worked) hold = 4.0 * worked;
    m->out++;
    m->hold = hold;
    m->until = now + hold;
    m->changed = now;
    return worst > 0 ? worst : count - 1;
}
