package control

import "time"

// SetPatience makes s cut a watcher that takes no byte for d.
func (s *Server) SetPatience(d time.Duration) { s.patience = d }
