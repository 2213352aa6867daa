//go:build !metrics

package agent

import (
	"context"
	"net/http"
)

// metering has nothing: this program was built without the tag metrics, whose library would make it larger than it may be.
type metering struct{}

func (a *Agent) metricsHandler() http.Handler { return nil }

func (a *Agent) followMetrics(ctx context.Context) error { return nil }
