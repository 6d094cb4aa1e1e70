// Attention's masks and running softmax, for one processor path.
//
// Scores are kept transposed, keys in rows and queries in lanes: the softmax then needs no sums across lanes.
#ifndef FM_VARIANT
#error "support/attention_softmax.h is for code compiled once per processor path"
#endif

/// Hides, in scores (keys, AT_TILE lanes), what the mask hides. Rows are keys first_key and following.
static void FM(at_hide)(const at_job *job, const at_lanes *lanes, const at_steps *steps, int64_t batch, int64_t first_key,
                        float *scores) {
  const fm_attention_mask *mask = &job->shape->mask;
  const int32_t *positions =
      mask->key_positions ? mask->key_positions + batch * mask->key_position_stride + first_key : NULL;
  const int32_t *documents = mask->key_documents ? mask->key_documents + batch * mask->key_document_stride + first_key : NULL;
  int64_t vectors = (lanes->count + FM_LANES - 1) / FM_LANES;
  int compare_documents = mask->key_documents || mask->query_documents;
  int64_t keys = steps->key[steps->count], step = 0;
  vf hidden = FM(v_set)(-INFINITY);
  for (int64_t k = 0; k < keys; k++) {
    if (k == steps->key[step + 1]) step++;
    int32_t position = positions ? positions[k] : (int32_t)(first_key + k);
    vi p = FM(v_seti)(position), document = FM(v_seti)(documents ? documents[k] : 0);
    vi sink = FM(v_seti)(position <= job->last_sink ? -1 : 0), prefix = FM(v_seti)(position <= job->last_prefix ? -1 : 0);
    if (documents && documents[k] < 0) document = FM(v_seti)(-2);  // lanes that are padding hold -1
    float *row = scores + k * AT_TILE;
    for (int64_t v = steps->lane[step] / FM_LANES; v < vectors; v++) {
      int64_t i = v * FM_LANES;
      vi low, high, upper, own;
      memcpy(&low, lanes->low + i, sizeof low);
      memcpy(&high, lanes->high + i, sizeof high);
      memcpy(&upper, lanes->upper + i, sizeof upper);
      memcpy(&own, lanes->document + i, sizeof own);
      vi seen = (vi)(p <= upper) & (sink | ((vi)(p >= low) & (vi)(p <= high)));
      seen |= prefix;
      if (compare_documents) seen &= (vi)(document == own);
      FM(v_store)(row + i, FM(v_select)(seen, FM(v_load)(row + i), hidden));
    }
  }
  if (!mask->visible) return;
  for (int64_t i = 0; i < lanes->count; i++) {
    const uint8_t *row = mask->visible + batch * mask->visible_batch_stride +
                         lanes->query[i] * mask->visible_row_stride + first_key;
    for (int64_t k = 0; k < keys; k++)
      if (!row[k]) scores[k * AT_TILE + i] = -INFINITY;
  }
}

/// Soft caps scores (keys, AT_TILE lanes), given as s / cap, to cap tanh(s / cap) in powers of two (Gemma Team 2024).
static void FM(at_softcap)(float cap, int64_t keys, int64_t lanes, float *scores) {
  if (!(cap > 0)) return;
  vf height = FM(v_set)(cap * AT_LOG2E);
  for (int64_t k = 0; k < keys; k++)
    for (int64_t i = 0; i < lanes; i += FM_LANES)
      FM(v_store)(scores + k * AT_TILE + i, height * FM(v_tanh)(FM(v_load)(scores + k * AT_TILE + i)));
}

/// Two rows of f32 as one row of bf16 pairs.
#if FM_BF16_INSTRUCTIONS
FM_INLINE vf FM(at_interleave)(__m512i halves) {
  const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21, 5,
                                         20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
  return (vf)_mm512_permutexvar_epi16(order, halves);
}
#endif
FM_INLINE vf FM(at_pair)(vf even, vf odd) {
#if FM_BF16_INSTRUCTIONS
  return FM(at_interleave)((__m512i)_mm512_cvtne2ps_pbh((__m512)odd, (__m512)even));
#else
  vi low = __builtin_convertvector(FM(v_to_bf16)(even), vi), high = __builtin_convertvector(FM(v_to_bf16)(odd), vi);
  return (vf)(low | (high << 16));
#endif
}

/// Writes two rows of f32 as bf16 to a row of scores and the next, and returns them as pairs.
FM_INLINE vf FM(at_store_halves)(uint16_t *row, vf even, vf odd) {
#if FM_BF16_INSTRUCTIONS
  // Converted once for both uses.
  __m512i halves = (__m512i)_mm512_cvtne2ps_pbh((__m512)odd, (__m512)even);
  _mm256_storeu_si256((__m256i *)row, _mm512_castsi512_si256(halves));
  _mm256_storeu_si256((__m256i *)(row + 2 * AT_TILE), _mm512_extracti64x4_epi64(halves, 1));
  return FM(at_interleave)(halves);
#else
  FM(v_store_bf16)(row, even);
  FM(v_store_bf16)(row + 2 * AT_TILE, odd);
  return FM(at_pair)(even, odd);
#endif
}

/// One step of the running softmax over scores (keys, AT_TILE lanes), in powers of two: replaces them with probabilities
/// relative to the new maximum (f32 in place, bf16 pairs of keys packed into the first rows), updates maximum and sum, and writes
/// what older sums must be multiplied by.
FM_INLINE void FM(at_softmax_columns)(const int half, const int wide, int64_t keys, int64_t first, float *scores, float *maximum,
                                    float *sum, float *rescale) {
  vf top[4], total[4];
  for (int v = 0; v < wide; v++) top[v] = FM(v_load)(maximum + first + v * FM_LANES);
  for (int64_t k = 0; k < keys; k++)
    for (int v = 0; v < wide; v++)
      top[v] = FM(v_max)(FM(v_load)(scores + k * AT_TILE + first + v * FM_LANES), top[v]);
  for (int v = 0; v < wide; v++) {
    float *m = maximum + first + v * FM_LANES;
    vf old = FM(v_load)(m);
    FM(v_store)(m, top[v]);
    // Where nothing was seen yet the maximum is -infinity; 0 in its place keeps every power at 0.
    top[v] = FM(v_select)(top[v] == FM(v_set)(-INFINITY), FM(v_set)(0), top[v]);
    vf factor = FM(v_exp2)(0, old - top[v]);
    FM(v_store)(rescale + first + v * FM_LANES, factor);
    total[v] = FM(v_load)(sum + first + v * FM_LANES) * factor;
  }
  int64_t k = 0;
  for (; k + half < keys; k += 1 + half) {
    const float *from = scores + k * AT_TILE + first;
    float *to = scores + (half ? k / 2 : k) * AT_TILE + first;
    for (int v = 0; v < wide; v++) {
      vf p = FM(v_exp2)(half, FM(v_load)(from + v * FM_LANES) - top[v]);
      total[v] += p;
      if (half) {
        vf q = FM(v_exp2)(half, FM(v_load)(from + AT_TILE + v * FM_LANES) - top[v]);
        total[v] += q;
        p = FM(at_pair)(p, q);
      }
      FM(v_store)(to + v * FM_LANES, p);
    }
  }
  // The last of an odd number of keys has no other half.
  if (k < keys)
    for (int v = 0; v < wide; v++) {
      vf p = FM(v_exp2)(half, FM(v_load)(scores + k * AT_TILE + first + v * FM_LANES) - top[v]);
      total[v] += p;
      FM(v_store)(scores + k / 2 * AT_TILE + first + v * FM_LANES, FM(at_pair)(p, FM(v_set)(0)));
    }
  for (int v = 0; v < wide; v++) FM(v_store)(sum + first + v * FM_LANES, total[v]);
}

FM_INLINE void FM(at_softmax)(const int half, const at_steps *steps, float *scores, float *maximum, float *sum, float *rescale) {
  for (int64_t i = 0; i < steps->count; i++) {
    int64_t keys = steps->key[i + 1], from = steps->lane[i], to = steps->lane[i + 1];
    for (; from + 4 * FM_LANES <= to; from += 4 * FM_LANES)
      FM(at_softmax_columns)(half, 4, keys, from, scores, maximum, sum, rescale);
    for (; from < to; from += FM_LANES) FM(at_softmax_columns)(half, 1, keys, from, scores, maximum, sum, rescale);
  }
}

/// Scores of one tile of keys (keys, key_pitch) and one of queries (key_units, AT_TILE), masked. `lanes` are NULL where the mask
/// hides nothing.
FM_INLINE void FM(at_scores)(const at_job *job, const int half, const at_steps *steps, const at_lanes *lanes, int64_t batch,
                             int64_t first_key, const float *keys, const float *queries, float *scores) {
  FM(at_product_to_lanes)(job, half, steps, job->key_units, keys, job->key_pitch, queries, scores, at_score_scale(job->shape));
  for (int64_t i = 0; i < steps->count; i++)
    FM(at_softcap)(job->shape->softcap, steps->key[i + 1] - steps->key[i], steps->lane[steps->count] - steps->lane[i],
                   scores + steps->key[i] * AT_TILE + steps->lane[i]);
  if (lanes) FM(at_hide)(job, lanes, steps, batch, first_key, scores);
}

/// Ends the running softmax of a tile: outputs and log_sum_exp.
FM_INLINE void FM(at_finish_tile)(const at_job *job, const at_tile *tile, int64_t batch, int64_t key_head, const float *output,
                                  const float *maximum, const float *sum, float *spare) {
  const fm_attention_shape *shape = job->shape;
  const void *rows[AT_TILE];
  float factor[AT_TILE];
  int64_t lanes = tile->heads * tile->queries;
  for (int64_t i = 0; i < lanes; i++) {
    factor[i] = sum[i] == 0 ? 0 : 1 / sum[i];
    if (job->log_sum_exp) {
      int64_t head = key_head * job->group + tile->head + i / tile->queries;
      job->log_sum_exp[(batch * shape->query_heads + head) * shape->query_length + tile->query + i % tile->queries] =
          sum[i] == 0 ? -INFINITY : maximum[i] * AT_LN2 + logf(sum[i]);
    }
  }
  FM(at_query_rows)(job, tile, batch, key_head, 0, job->output, shape->output_stride, rows);
  FM(at_write_lanes)(job, output, spare, job->value_pitch, lanes, shape->value_width, factor, rows);
}

/// Ends one range of keys: the tile's outputs when there is one range, else its statistics for at_merge_task.
FM_INLINE void FM(at_end_range)(const at_job *job, const at_tile *tile, int64_t index, int64_t batch, int64_t key_head,
                                int64_t range, const float *output, const float *maximum, const float *sum, float *spare) {
  if (job->ranges == 1) { FM(at_finish_tile)(job, tile, batch, key_head, output, maximum, sum, spare); return; }
  int64_t pair = batch * job->shape->key_value_heads + key_head;
  float *part = job->parts + ((pair * job->tiles + index) * job->ranges + range) * job->part_size;
  memcpy(part, maximum, 4 * AT_TILE);
  memcpy(part + AT_TILE, sum, 4 * AT_TILE);
  memcpy(part + 2 * AT_TILE, output, 4 * (size_t)(job->shape->value_width * AT_TILE));
}
