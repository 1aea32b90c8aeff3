/* How a vector unit goes through the queries and positions of decode attention over BF16 rows, by tiles of QUERIES queries. The
 * file that includes this has defined
 *  - LANES; QUERIES (4), POSITIONS and VECTORS: positions of a tile of scores, vectors of a tile of sums
 *  - score_tile(queries, positions, q, rows, stride, width, scores): the products of so many queries and rows
 *  - add_tile(queries, vectors, sum, p, rows, stride, count, width, c): so many vectors of the sums, from column c on
 *
 * A pair of query and row is summed in the same order however many queries there are. */
#include <stdint.h>

_Static_assert(QUERIES == 4, "fewer queries are told apart below");

INLINE void score_queries(int queries, const float *const *q, const uint16_t *rows, int64_t stride, int count, int width,
                          float *const *scores) {
    float *at[QUERIES];
    UNROLL for (int i = 0; i < queries; i++) at[i] = scores[i];
    int t = 0;
    for (; t + POSITIONS <= count; t += POSITIONS) {
        score_tile(queries, POSITIONS, q, rows + t * stride, stride, width, at);
        UNROLL for (int i = 0; i < queries; i++) at[i] += POSITIONS;
    }
    for (; t < count; t++) {
        score_tile(queries, 1, q, rows + t * stride, stride, width, at);
        UNROLL for (int i = 0; i < queries; i++) at[i]++;
    }
}

INLINE void attend_scores(const float *const *q, int n, const uint16_t *rows, int64_t stride, int count, int width,
                          float *const *scores) {
    for (; n >= QUERIES; n -= QUERIES, q += QUERIES, scores += QUERIES)
        score_queries(QUERIES, q, rows, stride, count, width, scores);
    if (n == 3) score_queries(3, q, rows, stride, count, width, scores);
    if (n == 2) score_queries(2, q, rows, stride, count, width, scores);
    if (n == 1) score_queries(1, q, rows, stride, count, width, scores);
}

INLINE void add_queries(int queries, float *const *sum, const float *const *p, const uint16_t *rows, int64_t stride, int count,
                        int width) {
    int c = 0;
    for (; c + VECTORS * LANES <= width; c += VECTORS * LANES) add_tile(queries, VECTORS, sum, p, rows, stride, count, width, c);
    for (; c < width; c += LANES) add_tile(queries, 1, sum, p, rows, stride, count, width, c);
}

INLINE void attend_values(float *const *sum, int n, const float *const *p, const uint16_t *rows, int64_t stride, int count,
                          int width) {
    for (; n >= QUERIES; n -= QUERIES, sum += QUERIES, p += QUERIES) add_queries(QUERIES, sum, p, rows, stride, count, width);
    if (n == 3) add_queries(3, sum, p, rows, stride, count, width);
    if (n == 2) add_queries(2, sum, p, rows, stride, count, width);
    if (n == 1) add_queries(1, sum, p, rows, stride, count, width);
}
