// Package air has the end-to-end tests over Wi-Fi Direct: real agents on radio
// nodes of the lab's guest, driven by the command line as a person would. It has
// no code of its own. Run them with
//
//	make build && go run ./lab/cmd/lab test ./lab/air
package air
