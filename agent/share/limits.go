package share

import "time"

// The bounds that people meet.
const (
	MaxShares  = 32      // shared folders
	MaxEntries = 200_000 // files and folders of one share
	MaxName    = 64      // characters of a share's name
	MaxDevices = 256     // devices that one share names
	MaxQuery   = 256     // bytes of a search
	MaxPage    = 1000    // entries of one page
	MaxResults = 200     // results of one device
)

// Every other bound of the package.
const (
	maxBody      = 16 << 10  // bytes of JSON in a request
	maxAnswer    = 1 << 20   // bytes of JSON in an answer that are read
	maxPageBytes = 256 << 10 // bytes of names and paths in an answer
	maxWords     = 16        // of a query
	maxFound     = 1000      // results of all devices
	maxAsking    = 64        // devices that are asked at the same time
	maxExpected  = 64        // requests whose offer has not come
	maxCallers   = 1024      // devices whose rate is remembered

	// A device's requests.
	requestRate  = 20
	requestBurst = 60
	searchRate   = 4
	searchBurst  = 8
	maxSearching = 4 // at once, of all devices

	searchTime = 2 * time.Second  // a search works so long at most
	askTime    = 10 * time.Second // an answer takes so long at most ..
	getTime    = 30 * time.Second // .. but that to a get: a large folder is listed first
	busyTries  = 5                // a busy device is asked so often ..
	busyWait   = 300 * time.Millisecond

	// The index.
	batchEntries = 1000 // entries written at once
	hashBatch    = 512  // hashes written at once ..
	hashFlush    = 2 * time.Second
	maxDirty     = 4096 // directories that are scanned one by one; more are a whole scan
	settle       = 500 * time.Millisecond
	hashSettle   = 2 * time.Second  // after the last change
	hashRest     = 9                // times the length of the last pass ..
	hashRestMax  = 10 * time.Minute // and at most
	verifyAfter  = 2 * time.Second  // directories came or went; and hashRest times the last whole scan
	rescanEvery  = 10 * time.Minute // without inotify
	missingEvery = 30 * time.Second // to look for a folder that is not there
)
