// oneDNN primitives of products, cached by shape: the only file that includes it is the seam's.
#ifndef FERMATA_PRODUCT_PRIMITIVES_H
#define FERMATA_PRODUCT_PRIMITIVES_H
#include "fermata_product.h"

typedef enum {
  PRODUCT_PLAIN,   // c = a b, b as its strides say
  PRODUCT_PACKED,  // c = a b, b in the order of PRODUCT_PACK
  PRODUCT_PACK,    // b (inner, columns) of output_type, as its strides say, into the packed order of input_type
} product_kind;

/// What a primitive is made for. Fields that a kind does not use are 0.
typedef struct {
  product_kind kind;
  fm_product_shape shape;
} product_key;

/// Runs the key's primitive, made when there is none yet: `a`, `b` and `c` of a product; the source, NULL and the packed
/// memory of PRODUCT_PACK. Returns 0, -1 when oneDNN has no such primitive, -2 when memory could not be had.
int product_run(const product_key *key, const void *a, const void *b, void *c);

/// Bytes of what PRODUCT_PACK writes; 0 when oneDNN would rather read b as it lies.
int64_t product_packed_bytes(const product_key *key);

/// Memory that the calling thread keeps for conversions; slot 0 to 2. NULL when there is none.
void *product_scratch(int slot, size_t bytes);
#endif
