// Products with few rows, as one step of decoding needs them.
#ifndef FERMATA_PRODUCT_ROWS_H
#define FERMATA_PRODUCT_ROWS_H
#include "fermata_product.h"

/// Whether fm_product_few_rows handles this (normalised) shape, and faster than a general product.
int fm_product_suits_few_rows(const fm_product_shape *shape);
/// c = a b for up to 4 rows where b's columns are contiguous: every column of b is read once, from memory to registers.
void fm_product_few_rows(const fm_product_shape *shape, const void *a, const void *b, void *c);
#endif
