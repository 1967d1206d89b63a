module coterie.chat/tests/kube/tools/prometheus-operator

go 1.26.8

// Its definitions of PodMonitor and PrometheusRule are wanted, no program.
require github.com/prometheus-operator/prometheus-operator v0.85.0
