// The cells of recurrence.c: what one step does to a vector of units, and its derivative. Everything else about a recurrence
// is the same for all. Included once per processor path, after support/vector.h and support/vector_math.h.
//
// Forward: x and sums hold the gates' two parts; `state` goes from before the step to after it, hidden first; `kept` is what the
// backward needs. Backward: `state` goes from the gradient after the step to that before it, without what comes back
// through the recurrent matrix; dsums and dx are the gradients of sums and x.

#ifndef FERMATA_RECURRENCE_CELL_SIZES
#define FERMATA_RECURRENCE_CELL_SIZES
#define RECURRENCE_GATES 4
#define RECURRENCE_STATES 3
typedef struct {
  int gates, states;
  float empty[RECURRENCE_STATES];  // the states before a document
} recurrence_cell_size;

static const recurrence_cell_size recurrence_sizes[] = {
    [FM_LSTM] = {4, 2, {0, 0, 0}},
    [FM_GRU] = {3, 1, {0, 0, 0}},
    [FM_SLSTM] = {4, 3, {0, 0, -INFINITY}},
};
#endif

static void FM(lstm_forward)(const vf *x, const vf *sums, vf *state, vf *kept) {
  vf i = FM(v_sigmoid)(x[0] + sums[0]), f = FM(v_sigmoid)(x[1] + sums[1]);
  vf g = FM(v_tanh)(x[2] + sums[2]), o = FM(v_sigmoid)(x[3] + sums[3]);
  kept[0] = i, kept[1] = f, kept[2] = g, kept[3] = o, kept[4] = state[1];
  state[1] = FM(v_fma)(f, state[1], i * g);
  state[0] = o * FM(v_tanh)(state[1]);
}

static void FM(lstm_backward)(const vf *kept, vf *state, vf *dsums, vf *dx) {
  vf i = kept[0], f = kept[1], g = kept[2], o = kept[3], before = kept[4], one = FM(v_set)(1);
  vf c = FM(v_tanh)(FM(v_fma)(f, before, i * g)), dh = state[0];
  vf dc = FM(v_fma)(dh * o, one - c * c, state[1]);
  dx[0] = dsums[0] = dc * g * i * (one - i);
  dx[1] = dsums[1] = dc * before * f * (one - f);
  dx[2] = dsums[2] = dc * i * (one - g * g);
  dx[3] = dsums[3] = dh * c * o * (one - o);
  state[0] = FM(v_set)(0);
  state[1] = dc * f;
}

static void FM(gru_forward)(const vf *x, const vf *sums, vf *state, vf *kept) {
  vf r = FM(v_sigmoid)(x[0] + sums[0]), z = FM(v_sigmoid)(x[1] + sums[1]);
  vf n = FM(v_tanh)(FM(v_fma)(r, sums[2], x[2]));
  kept[0] = r, kept[1] = z, kept[2] = n, kept[3] = sums[2], kept[4] = state[0];
  state[0] = FM(v_fma)(z, state[0] - n, n);
}

static void FM(gru_backward)(const vf *kept, vf *state, vf *dsums, vf *dx) {
  vf r = kept[0], z = kept[1], n = kept[2], one = FM(v_set)(1), dh = state[0];
  vf dn = dh * (one - z) * (one - n * n);
  dx[0] = dsums[0] = dn * kept[3] * r * (one - r);
  dx[1] = dsums[1] = dh * (kept[4] - n) * z * (one - z);
  dx[2] = dn;
  dsums[2] = dn * r;
  state[0] = dh * z;
}

/// With a = log sigma(f) + log N and the new token's share w = sigma(i - a) of the normaliser: log N' = log(e^a + e^i), and the
/// average moves by w towards tanh(z). a is -infinity in an empty state, where w is 1.
static void FM(slstm_forward)(const vf *x, const vf *sums, vf *state, vf *kept) {
  vf zero = FM(v_set)(0), one = FM(v_set)(1);
  vf i = x[0] + sums[0], f = x[1] + sums[1];
  vf z = FM(v_tanh)(x[2] + sums[2]), o = FM(v_sigmoid)(x[3] + sums[3]);
  vf a = FM(v_min)(f, zero) - FM(v_log1p)(FM(v_exp)(-FM(v_abs)(f))) + state[2];
  vf ahead = i - a, w = FM(v_sigmoid)(ahead);
  kept[0] = w, kept[1] = z, kept[2] = o, kept[3] = one / (one + FM(v_exp)(f)), kept[4] = state[1];
  state[2] = FM(v_max)(a, i) + FM(v_log1p)(FM(v_exp)(-FM(v_abs)(ahead)));
  state[1] = FM(v_fma)(w, z - state[1], state[1]);
  state[0] = o * state[1];
}

static void FM(slstm_backward)(const vf *kept, vf *state, vf *dsums, vf *dx) {
  vf w = kept[0], z = kept[1], o = kept[2], before = kept[4], one = FM(v_set)(1), dh = state[0];
  vf daverage = FM(v_fma)(dh, o, state[1]), step = z - before;
  vf dahead = daverage * step * w * (one - w), da = state[2] * (one - w) - dahead;
  dx[0] = dsums[0] = FM(v_fma)(state[2], w, dahead);
  dx[1] = dsums[1] = da * kept[3];
  dx[2] = dsums[2] = daverage * w * (one - z * z);
  dx[3] = dsums[3] = dh * FM(v_fma)(w, step, before) * o * (one - o);
  state[0] = FM(v_set)(0);
  state[1] = daverage * (one - w);
  state[2] = da;
}

#undef recurrence_cell
#define recurrence_cell FM(recurrence_cell_functions)
typedef struct {
  void (*forward)(const vf *x, const vf *sums, vf *state, vf *kept);
  void (*backward)(const vf *kept, vf *state, vf *dsums, vf *dx);
} recurrence_cell;

static const recurrence_cell FM(recurrence_cells)[] = {
    [FM_LSTM] = {FM(lstm_forward), FM(lstm_backward)},
    [FM_GRU] = {FM(gru_forward), FM(gru_backward)},
    [FM_SLSTM] = {FM(slstm_forward), FM(slstm_backward)},
};
