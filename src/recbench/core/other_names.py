"""What people call things elsewhere: names of other tools and papers for a key or an option, and ours for them. For error messages alone.

A name stands here in its plain form (``errors.plain_name``), and only where spelling does not lead to ours by itself.
"""

from __future__ import annotations

from collections.abc import Mapping

_MEANT = {
    # keys of training
    "max_epochs": "epochs n_epochs num_epochs epoch iterations n_iters",
    "lr": "learning_rate learn_rate alpha step_size",
    "batch_size": "bs batch train_batch_size per_device_train_batch_size mini_batch",
    "weight_decay": "wd decay regularization reg reg_weight",
    "patience": "early_stopping early_stop early_stopping_patience stopping_step early_stop_patience",
    "max_length": "max_len maxlen max_seq_length max_seq_len seq_len sequence_length max_item_list_length history_length context_length",
    "warmup_steps": "warmup num_warmup_steps",
    "schedule": "scheduler lr_scheduler learning_rate_scheduler",
    "gradient_clip": "clip grad_clip clip_grad clip_grad_norm gradient_clip_val max_grad_norm clipping",
    "validate_every": "eval_step eval_every eval_interval check_val_every_n_epoch",
    "epoch_steps": "steps_per_epoch limit_train_batches max_steps_per_epoch",
    # keys of models
    "dropout": "drop dropout_prob dropout_rate drop_rate dropout_ratio hidden_dropout hidden_dropout_prob attn_dropout_prob",
    "hidden_size": "hidden hidden_dim hidden_units dim d_model embedding_size embedding_dim emb_size emb_dim embed_dim n_factors factors latent_dim",
    "n_layers": "layers num_layers num_blocks n_blocks num_hidden_layers depth",
    "n_heads": "heads num_heads num_attention_heads",
    "feedforward_size": "ff ffn inner_size intermediate_size dim_feedforward",
    "loss": "loss_type criterion loss_fn objective",
    "n_negatives": "negatives num_negatives neg_samples num_neg neg_num train_neg_sample_num n_negs",
    "neighbours": "neighbors n_neighbors num_neighbors",
    # keys of evaluation, data, hardware and places
    "cutoffs": "k ks topk top_k cutoff at_k",
    "metrics": "metric eval_metrics measures",
    "data": "dataset datasets",
    "raw_dir": "data_dir data_path data_root dataset_path dataset_dir root raw",
    "path": "file csv filename input input_file",
    "k_core": "kcore core min_interactions min_count user_inter_num_interval",
    "category": "domain subset",
    "protocol": "split splitting evaluation_mode eval_setting",
    "accelerator": "device gpu cuda use_gpu gpu_id",
    "devices": "gpus num_gpus n_gpus nproc world_size",
    "threads": "num_threads n_threads n_jobs num_workers workers cpus",
    "precision": "fp16 amp bf16 mixed_precision half",
    "compile": "torch_compile",
    "seed": "random_seed random_state rng manual_seed",
    "runs_dir": "out output output_dir out_dir save_dir log_dir checkpoint_dir results_dir",
    "cache_dir": "cache cache_path",
    "uri": "mlflow_uri tracking_uri",
    # options
    "popularity": "pop toppop top_pop most_popular mostpop",
    "itemknn": "knn iknn item_knn ii",
    "markov": "fmc mc markov_chain first_order",
    "movielens": "ml ml_1m ml1m ml_100k ml100k ml_10m ml_20m ml_25m ml_32m",
    "amazon": "beauty amazon_beauty toys sports amazon_toys",
    "table": "csv parquet tsv file custom pandas dataframe",
    "leave_one_out": "loo ls last leave_last_out",
    "temporal": "time time_split global_time by_time",
    "off": "none null no false never default",
    "cpu": "cpus",
    "gpu": "cuda",
}

#: Plain name elsewhere -> our names for it, any of which may be meant.
OTHER_NAMES: Mapping[str, tuple[str, ...]] = {
    other: tuple(ours for ours, others in _MEANT.items() if other in others.split())
    for others in _MEANT.values()
    for other in others.split()
}
