package message

import "time"

// MaxText is the longest text, in bytes.
const MaxText = 32 << 10

// Every bound of the package. What a peer can make grow, wait or repeat has a line here.
const (
	maxBody      = 256 << 10 // bytes of JSON of a message: a text in which each byte is written as six, and some
	maxErrorBody = 4 << 10   // bytes of an answer that are read

	// Receiving, for each device. A whole outbox that comes at once passes.
	receiveRate       = 20        // messages in a second ..
	receiveBurst      = 200       // .. after this many at once
	receiveBytes      = 128 << 10 // bytes of text in a second ..
	receiveBytesBurst = 2 << 20   // .. after this many at once
	maxSeen           = 64        // ids remembered
	maxSeenDevices    = 1024      // devices of which ids are remembered

	// Outbox.
	maxRecipients    = 512     // devices that one message is for
	maxOutbox        = 128     // messages that wait for one device ..
	maxOutboxBytes   = 1 << 20 // .. and bytes of their texts
	maxWaiting       = 2048    // deliveries that wait, to all devices ..
	maxWaitingBytes  = 4 << 20 // .. and bytes of the messages they are of
	maxDelivering    = 64      // devices that are sent to at once
	deliverTimeout   = 10 * time.Second
	retryFirst       = 300 * time.Millisecond // first wait after a failure, doubled each time
	retryLast        = 10 * time.Second       // longest wait
	saveRetry        = 5 * time.Second        // until marks that could not be written are written again
	maxShareOwn      = maxHistory / 2         // messages of this device's own that are kept ..
	maxShareOwnBytes = maxHistoryBytes / 2    // .. and bytes of their records

	// History.
	maxHistory      = 4096                // messages that are kept ..
	maxHistoryBytes = 12 << 20            // .. and bytes of their records
	maxShare        = maxHistory / 4      // of one device ..
	maxShareBytes   = maxHistoryBytes / 4 // .. and bytes of their records
	maxDamaged      = 64                  // records set aside

	// Lists.
	defaultPage  = 50
	maxPage      = 500
	maxPageBytes = 1 << 20 // bytes of text in a page, but at least one message
)
