"""The table of passes and the presets made of them."""

from __future__ import annotations

from onnxsmith.plugins import Table

PASSES = Table(
    "pass",
    "onnxsmith.passes",
    {
        "change-io": "onnxsmith.passes.layout.change_io:ChangeIo",
        "decompose": "onnxsmith.passes.fusion.decompose:Decompose",
        "correct-biases": "onnxsmith.passes.quantization.correct_biases:CorrectBiases",
        "convert-opset": "onnxsmith.passes.layout.convert_opset:ConvertOpset",
        "drop-unused-inputs": "onnxsmith.passes.cleanup.drop_unused_inputs:DropUnusedInputs",
        "drop-zero-states": "onnxsmith.passes.cleanup.drop_zero_states:DropZeroStates",
        "equalize-layers": "onnxsmith.passes.quantization.equalize_layers:EqualizeLayers",
        "fit-target": "onnxsmith.passes.layout.fit_target:FitTarget",
        "fix-names": "onnxsmith.passes.cleanup.fix_names:FixNames",
        "flatten-biases": "onnxsmith.passes.quantization.flatten_biases:FlattenBiases",
        "fold-constants": "onnxsmith.passes.cleanup.fold_constants:FoldConstants",
        "fold-ifs": "onnxsmith.passes.cleanup.fold_ifs:FoldIfs",
        "fold-scales": "onnxsmith.passes.fusion.fold_scales:FoldScales",
        "fold-sequences": "onnxsmith.passes.cleanup.fold_sequences:FoldSequences",
        "fold-shapes": "onnxsmith.passes.cleanup.fold_shapes:FoldShapes",
        "free-batch": "onnxsmith.passes.layout.free_batch:FreeBatch",
        "fuse-attention": "onnxsmith.passes.fusion.fuse_attention:FuseAttention",
        "fuse-batch-norm": "onnxsmith.passes.fusion.fuse_batch_norm:FuseBatchNorm",
        "fuse-bias-gelu": "onnxsmith.passes.fusion.fuse_bias_gelu:FuseBiasGelu",
        "fuse-clips": "onnxsmith.passes.fusion.fuse_clips:FuseClips",
        "fuse-conv-affine": "onnxsmith.passes.fusion.fuse_conv_affine:FuseConvAffine",
        "fuse-embed-layer-norm": "onnxsmith.passes.fusion.fuse_embed_layer_norm:FuseEmbedLayerNorm",
        "fuse-gelu": "onnxsmith.passes.fusion.fuse_gelu:FuseGelu",
        "fuse-gemm": "onnxsmith.passes.fusion.fuse_gemm:FuseGemm",
        "fuse-group-norm": "onnxsmith.passes.fusion.fuse_group_norm:FuseGroupNorm",
        "fuse-hard-swish": "onnxsmith.passes.fusion.fuse_hard_swish:FuseHardSwish",
        "fuse-layer-norm": "onnxsmith.passes.fusion.fuse_layer_norm:FuseLayerNorm",
        "fuse-matmul-reshapes": "onnxsmith.passes.fusion.fuse_matmul_reshapes:FuseMatMulReshapes",
        "fuse-pad": "onnxsmith.passes.fusion.fuse_pad:FusePad",
        "fuse-qdq": "onnxsmith.passes.quantization.fuse_qdq:FuseQdq",
        "fuse-rms-norm": "onnxsmith.passes.fusion.fuse_rms_norm:FuseRmsNorm",
        "fuse-rotary-embedding": "onnxsmith.passes.fusion.fuse_rotary_embedding:FuseRotaryEmbedding",
        "fuse-skip-layer-norm": "onnxsmith.passes.fusion.fuse_skip_layer_norm:FuseSkipLayerNorm",
        "fuse-split": "onnxsmith.passes.fusion.fuse_split:FuseSplit",
        "fuse-standard-attention": "onnxsmith.passes.fusion.fuse_standard_attention:FuseStandardAttention",
        "fuse-swish": "onnxsmith.passes.fusion.fuse_swish:FuseSwish",
        "infer-shapes": "onnxsmith.passes.cleanup.infer_shapes:InferShapes",
        "inline-functions": "onnxsmith.passes.cleanup.inline_functions:InlineFunctions",
        "lift-constants": "onnxsmith.passes.cleanup.lift_constants:LiftConstants",
        "keep-sums": "onnxsmith.passes.fusion.keep_sums:KeepSums",
        "lift-subgraph-initializers": "onnxsmith.passes.cleanup.lift_subgraph_initializers:LiftSubgraphInitializers",
        "merge-adapter": "onnxsmith.passes.lora.merge_adapter:MergeAdapter",
        "merge-common-subexpressions": "onnxsmith.passes.cleanup.merge_common_subexpressions:MergeCommonSubexpressions",
        "merge-scales": "onnxsmith.passes.fusion.merge_scales:MergeScales",
        "merge-views": "onnxsmith.passes.cleanup.merge_views:MergeViews",
        "merge-initializers": "onnxsmith.passes.cleanup.merge_initializers:MergeInitializers",
        "pool-means": "onnxsmith.passes.quantization.pool_means:PoolMeans",
        "name-dimensions": "onnxsmith.passes.cleanup.name_dimensions:NameDimensions",
        "quantize-dynamic": "onnxsmith.passes.quantization.quantize_dynamic:QuantizeDynamic",
        "quantize-fp8": "onnxsmith.passes.quantization.quantize_fp8:QuantizeFp8",
        "quantize-static": "onnxsmith.passes.quantization.quantize_static:QuantizeStatic",
        "raise-views": "onnxsmith.passes.fusion.raise_views:RaiseViews",
        "quantize-weights": "onnxsmith.passes.quantization.quantize_weights:QuantizeWeights",
        "remove-expands": "onnxsmith.passes.cleanup.remove_expands:RemoveExpands",
        "remove-identities": "onnxsmith.passes.cleanup.remove_identities:RemoveIdentities",
        "remove-initializer-inputs": "onnxsmith.passes.cleanup.remove_initializer_inputs:RemoveInitializerInputs",
        "remove-neutral-elements": "onnxsmith.passes.cleanup.remove_neutral_elements:RemoveNeutralElements",
        "remove-no-op-casts": "onnxsmith.passes.cleanup.remove_no_op_casts:RemoveNoOpCasts",
        "remove-no-op-shapes": "onnxsmith.passes.cleanup.remove_no_op_shapes:RemoveNoOpShapes",
        "remove-no-op-slices": "onnxsmith.passes.cleanup.remove_no_op_slices:RemoveNoOpSlices",
        "remove-no-ops": "onnxsmith.passes.cleanup.remove_no_ops:RemoveNoOps",
        "remove-softmax-guards": "onnxsmith.passes.fusion.remove_softmax_guards:RemoveSoftmaxGuards",
        "remove-unused-functions": "onnxsmith.passes.cleanup.remove_unused_functions:RemoveUnusedFunctions",
        "remove-unused-nodes": "onnxsmith.passes.cleanup.remove_unused_nodes:RemoveUnusedNodes",
        "remove-unused-opsets": "onnxsmith.passes.cleanup.remove_unused_opsets:RemoveUnusedOpsets",
        "remove-zero-biases": "onnxsmith.passes.cleanup.remove_zero_biases:RemoveZeroBiases",
        "round-weights": "onnxsmith.passes.quantization.round_weights:RoundWeights",
        "replace-einsums": "onnxsmith.passes.fusion.replace_einsums:ReplaceEinsums",
        "set-session": "onnxsmith.passes.layout.set_session:SetSession",
        "set-shapes": "onnxsmith.passes.layout.set_shapes:SetShapes",
        "settle-reshapes": "onnxsmith.passes.cleanup.settle_reshapes:SettleReshapes",
        "shuffle-conv-transposes": "onnxsmith.passes.quantization.shuffle_conv_transposes:ShuffleConvTransposes",
        "sink-shapes": "onnxsmith.passes.cleanup.sink_shapes:SinkShapes",
        "smooth-quant": "onnxsmith.passes.quantization.smooth_quant:SmoothQuant",
        "sort-nodes": "onnxsmith.passes.cleanup.sort_nodes:SortNodes",
        "strip-metadata": "onnxsmith.passes.cleanup.strip_metadata:StripMetadata",
        "to-bfloat16": "onnxsmith.passes.precision.to_bfloat16:ToBfloat16",
        "to-float16": "onnxsmith.passes.precision.to_float16:ToFloat16",
        "trim-bodies": "onnxsmith.passes.cleanup.trim_bodies:TrimBodies",
        "unroll-loops": "onnxsmith.passes.cleanup.unroll_loops:UnrollLoops",
        "unbatch-transposes": "onnxsmith.passes.cleanup.unbatch_transposes:UnbatchTransposes",
    },
)
"""Name to pass class; third parties add rows through the entry points ``onnxsmith.passes``."""

_CLEANUP = (
    "remove-initializer-inputs,inline-functions,lift-constants,lift-subgraph-initializers,"
    "infer-shapes,remove-no-op-casts,remove-no-ops,fold-shapes,fold-constants,fold-ifs,trim-bodies,unroll-loops,fold-sequences,remove-identities,"
    "infer-shapes,name-dimensions,fold-shapes,fold-constants,remove-no-ops,"
    "remove-neutral-elements,unbatch-transposes,remove-no-op-shapes,remove-no-op-slices,remove-expands,settle-reshapes,drop-zero-states,merge-common-subexpressions"
)
_FINISH = (
    "sink-shapes,remove-identities,lift-constants,fold-constants,lift-subgraph-initializers,merge-initializers,"
    "merge-common-subexpressions,remove-unused-nodes,remove-unused-functions,remove-unused-opsets,"
    "sort-nodes,fit-target"
)
_FUSION = (
    "fuse-gemm,fuse-batch-norm,fuse-conv-affine,fold-scales,merge-scales,fuse-pad,fuse-clips,"
    "fuse-gelu,fuse-layer-norm,raise-views,merge-views,remove-zero-biases"
)
# Standard operators that the runtime's kernels make faster: benchmarks/fusions.py.
_STANDARD = "fuse-rms-norm:standard=true,fuse-rotary-embedding:standard=true,fuse-standard-attention,merge-views"
_CONTRIB = "infer-shapes,fuse-gelu:runtime=true,fuse-swish,fuse-rms-norm,fuse-rotary-embedding,fuse-standard-attention:grouped=true,fuse-attention,raise-views,merge-views,fuse-embed-layer-norm,fuse-skip-layer-norm,fuse-bias-gelu"

PRESETS: dict[str, str] = {
    "safe": f"{_CLEANUP},{_FINISH}",
    "cpu": f"{_CLEANUP},{_FUSION},{_STANDARD},{_FINISH}",
    "cuda": f"{_CLEANUP},replace-einsums,{_FUSION},{_CONTRIB},{_FINISH}",
    "tensorrt": f"{_CLEANUP},{_FUSION},{_FINISH}",
    "edge": f"{_CLEANUP},{_FUSION},{_FINISH}",
}
"""Preset to pipeline. ``safe`` only removes; the others also fuse into standard operators, and
``cuda`` into those of the runtime's own domain."""
