"""Caffe comes in: .prototxt and .caffemodel, read without Caffe."""
