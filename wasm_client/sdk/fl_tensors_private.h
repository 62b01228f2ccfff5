/* The two forms of a tensors document, behind fl_tensors.h. */
#ifndef FL_TENSORS_PRIVATE_H
#define FL_TENSORS_PRIVATE_H

#include "fl_tensors.h"

/* List a whole document, from its first byte to its last. */
void fl_json_document(struct fl_document *document);
void fl_cbor_document(struct fl_document *document);

/*
 * Begins the entry for a member whose name has been read, `size` bytes of it into name[]. Returns
 * NULL for "version", which gets none. Fails when there is no room, or the name is there already.
 */
struct fl_tensor *fl_document_add(struct fl_document *document, char *name, uint32_t size);

/* Fails with the document's name, the tensor's, and `reason`. */
_Noreturn void fl_tensor_fail(const struct fl_document *document, const struct fl_tensor *tensor,
                              const char *reason);

/* The next number of a JSON array or the like: goes past brackets, commas and white space. */
float fl_json_next_number(void);

#endif
