//go:build !metrics

package agent

import (
	"context"
	"net/http"
)

// metering has nothing: this program was built without the tag metrics, whose library would make it larger than it may be.
type metering struct{} //nolint:unused // the field needs a type with and without the tag

func (a *Agent) metricsHandler() http.Handler { return nil }

func (a *Agent) followMetrics(ctx context.Context) error { return nil }
