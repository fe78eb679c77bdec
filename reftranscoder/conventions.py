"""The definitions that libraries document beside the one here: their names, and what they say.

The auditor tries them on what it is given, and ``reftranscoder audit --help`` prints them.  This
module imports nothing, so that the help comes at once.
"""

from __future__ import annotations

#: How the squared error e (B, O) becomes a number.  The y are the rows of the target, and m is
#: their mean, column by column.
MSE = {
    "mean": "the sum of e^2 over B O",
    "row_sum": "the sum of e^2 over B",
    "sum": "the sum of e^2",
    "over_norm": "the mean over B O of e^2 / |y|",
    "over_square": "the mean over B of |e|^2 / |y|^2",
    "fvu": "the sum of e^2 over the sum of (y - m)^2",
}

#: How the activations f (B, D) become a penalty.
L1 = {
    "mean": "the sum of |f| over B D",
    "row_sum": "the sum of |f| over B",
    "sum": "the sum of |f|",
    "kept": "the sum of |f| over B K",
    "over_input_norm": "the mean over B of sum |f| / |x|",
}

#: By the name under which a convention is declared: what it says.
CONVENTIONS = {
    "x - b_dec": "the encoder reads x - b_dec",
    "skip of x - b_dec": "the skip connection reads x - b_dec",
    "keep_all": "everything that equals the K-th largest is kept",
    "lowest_index": "exactly K are kept where values are equal",
    "rank_by_decoder_norm": "features are ranked by their activation times |W_dec[j]|",
    "rescale_acts_by_decoder_norm": "activations are multiplied by |W_dec[j]|, and divided by it "
    "before decoding",
    "mse_sum": f"the loss is {MSE['row_sum']}",
    "mse_total": f"the loss is {MSE['sum']}",
    "mse_over_norm": f"the loss is {MSE['over_norm']}",
    "nmse_uncentred": f"the loss is {MSE['over_square']}",
    "fvu_batch": f"the loss is {MSE['fvu']}",
    "l1_sum": f"the penalty is {L1['row_sum']}",
    "l1_total": f"the penalty is {L1['sum']}",
    "l1_over_k": f"the penalty is {L1['kept']}",
    "l1_over_input_norm": f"the penalty is {L1['over_input_norm']}",
    "half": "the squared error is halved",
    "l1_decoder_weighted": f"the penalty is {L1['row_sum']}, |f| times |W_dec[j]|",
    "l1_weighted_mean": f"the penalty is {L1['mean']}, |f| times |W_dec[j]|",
    "tangent_dW_dec": "dW_dec lacks its component along W_dec[j], for every feature j",
}

#: Where those of the loss and its gradients are documented, as far as somebody's page or code does.
SOURCES = {
    "mse_sum": "dictionary_learning, SAELens",
    "mse_total": "scikit-learn's DictionaryLearning, with half",
    "mse_over_norm": "Dunefsky et al. (2024), transcoder_circuits",
    "nmse_uncentred": "Gao et al. (2024), openai/sparse_autoencoder",
    "fvu_batch": "sparsify",
    "l1_sum": "dictionary_learning, Dunefsky et al. (2024)",
    "l1_total": "scikit-learn's DictionaryLearning",
    "l1_over_input_norm": "Gao et al. (2024), openai/sparse_autoencoder",
    "half": "scikit-learn's DictionaryLearning, with mse_total",
    "l1_decoder_weighted": "SAELens, after Conerly et al. (2024)",
    "tangent_dW_dec": "dictionary_learning, BatchTopK",
}
