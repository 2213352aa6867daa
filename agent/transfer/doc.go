// Package transfer moves files and folders between devices.
package transfer
