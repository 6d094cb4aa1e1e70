// What goes through the pairs of a chunk on the way back, by key: names as in chunk_scan_backward.h. Included once per processor path.

/// From pairs_ji = <u_j, do_i>: weights_ji = scores_ji L_ij as rows of a first operand, dscores_ji += scale L_ij pairs_ji, and in
/// place of the pairs what each gate between them gets, weights_ji pairs_ji for j < i.
FM_INLINE void FM(chunk_pair_gradients)(const int half, int64_t rows, float scale, const float *decay, const float *scores,
                                        float *pairs, float *weights, float *dscores) {
  enum { VECTORS = CHUNK / FM_LANES };
  vf reach[VECTORS], one = FM(v_set)(1), zero = FM(v_set)(0), factor = FM(v_set)(scale);
  vi lane;
  for (int n = 0; n < FM_LANES; n++) lane[n] = n;
  for (int v = 0; v < VECTORS; v++) reach[v] = zero;
  for (int64_t j = rows - 1; j >= 0; j--) {
    vf a = FM(v_set)(j + 1 < CHUNK ? decay[j + 1] : 1);
    int64_t first = j / CHUNK_BLOCK * CHUNK_BLOCK;
#pragma clang loop unroll(full)
    for (int v = 0; v < VECTORS; v++) {
      if ((v + 1) * FM_LANES <= first) continue;
      vi distance = lane - FM(v_seti)((int32_t)j - v * FM_LANES);
      int64_t at = j * CHUNK + v * FM_LANES;
      reach[v] = FM(v_select)((vi)(distance == 0), one, FM(chunk_decayed)(reach[v], a));
      vf pair = FM(v_load)(pairs + at);
      vf w = FM(v_select)((vi)(distance < 0), zero, reach[v] * FM(v_load)(scores + at));
      vf dscore = FM(v_select)((vi)(distance < 0), zero, reach[v] * factor * pair);
      if (half) FM(v_store_bf16)((uint16_t *)(weights + j * (CHUNK / 2)) + v * FM_LANES, w);
      else FM(v_store)(weights + at, w);
      FM(v_store)(dscores + at, FM(v_load)(dscores + at) + dscore);
      FM(v_store)(pairs + at, FM(v_select)((vi)(distance > 0), w * pair, zero));
    }
  }
}

/// gates_t = the sum of pairs_ji over j < t <= i.
FM_INLINE void FM(chunk_gates_between)(int64_t rows, const float *pairs, float *gates) {
  enum { VECTORS = CHUNK / FM_LANES };
  vf before[VECTORS], sums[16];
  vi lane;
  for (int n = 0; n < FM_LANES; n++) lane[n] = n;
  for (int v = 0; v < VECTORS; v++) before[v] = FM(v_set)(0);
  for (int64_t first = 0; first < rows; first += 16) {
    for (int i = 0; i < 16; i++) {
      int64_t t = first + i;
      vf sum = FM(v_set)(0);
#pragma clang loop unroll(full)
      for (int v = 0; v < VECTORS; v++) {
        if ((v + 1) * FM_LANES <= first || t >= rows) continue;
        sum += FM(v_select)((vi)(lane < FM(v_seti)((int32_t)t - v * FM_LANES)), FM(v_set)(0), before[v]);
        before[v] += FM(v_load)(pairs + t * CHUNK + v * FM_LANES);
      }
      sums[i] = sum;
    }
    FM(scan_sum16)(sums, gates + first);
  }
}
