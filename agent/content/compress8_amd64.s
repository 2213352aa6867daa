#include "textflag.h"

// The state of BLAKE3's compression function is Y0 to Y15 and the message lies on the stack: each has one word of 8 lanes. The ninth word of
// the state lies on the stack, too, wherever Y8 is needed for something else: no register is left over.
#define NINTH 512(SP)

// CHAIN is where the chaining values wait while the next block is loaded.
#define CHAIN 544

DATA iv<>+0(SB)/4, $0x6a09e667
DATA iv<>+4(SB)/4, $0xbb67ae85
DATA iv<>+8(SB)/4, $0x3c6ef372
DATA iv<>+12(SB)/4, $0xa54ff53a
DATA iv<>+16(SB)/4, $0x510e527f
DATA iv<>+20(SB)/4, $0x9b05688c
DATA iv<>+24(SB)/4, $0x1f83d9ab
DATA iv<>+28(SB)/4, $0x5be0cd19
GLOBL iv<>(SB), RODATA|NOPTR, $32

// What VPSHUFB rotates every word by, to the right.
DATA by16<>+0(SB)/8, $0x0504070601000302
DATA by16<>+8(SB)/8, $0x0d0c0f0e09080b0a
DATA by16<>+16(SB)/8, $0x0504070601000302
DATA by16<>+24(SB)/8, $0x0d0c0f0e09080b0a
GLOBL by16<>(SB), RODATA|NOPTR, $32
DATA by8<>+0(SB)/8, $0x0407060500030201
DATA by8<>+8(SB)/8, $0x0c0f0e0d080b0a09
DATA by8<>+16(SB)/8, $0x0407060500030201
DATA by8<>+24(SB)/8, $0x0c0f0e0d080b0a09
GLOBL by8<>(SB), RODATA|NOPTR, $32

// TURN transposes each half of four registers, as four rows of four words.
#define TURN(a, b, c, d) \
	VPUNPCKLDQ  b, a, Y12   \
	VPUNPCKHDQ  b, a, Y13   \
	VPUNPCKLDQ  d, c, Y14   \
	VPUNPCKHDQ  d, c, Y15   \
	VPUNPCKLQDQ Y14, Y12, a \
	VPUNPCKHQDQ Y14, Y12, b \
	VPUNPCKLQDQ Y15, Y13, c \
	VPUNPCKHQDQ Y15, Y13, d

// LOAD reads four words of every lane, at bytes into the block, and lays them down as words of the message. R8 is the distance between lanes
// and R9 three times that; lanes 0 to 3 begin at SI, the others at R10.
#define LOAD(at, word)                 \
	VMOVDQU     at(SI), X0                \
	VINSERTI128 $1, at(R10), Y0, Y0       \
	VMOVDQU     at(SI)(R8*1), X1          \
	VINSERTI128 $1, at(R10)(R8*1), Y1, Y1 \
	VMOVDQU     at(SI)(R8*2), X2          \
	VINSERTI128 $1, at(R10)(R8*2), Y2, Y2 \
	VMOVDQU     at(SI)(R9*1), X3          \
	VINSERTI128 $1, at(R10)(R9*1), Y3, Y3 \
	TURN(Y0, Y1, Y2, Y3)                  \
	VMOVDQU     Y0, (32*(word+0))(SP)     \
	VMOVDQU     Y1, (32*(word+1))(SP)     \
	VMOVDQU     Y2, (32*(word+2))(SP)     \
	VMOVDQU     Y3, (32*(word+3))(SP)

// HALF is the first or the second half of four G functions (specification, section 2.2). The first of them has the ninth word as its c.
#define HALF(a0, a1, a2, a3, b0, b1, b2, b3, c1, c2, c3, d0, d1, d2, d3, m0, m1, m2, m3, by, r, l) \
	VPADDD  (32*m0)(SP), a0, a0                                                                       \
	VPADDD  (32*m1)(SP), a1, a1                                                                       \
	VPADDD  (32*m2)(SP), a2, a2                                                                       \
	VPADDD  (32*m3)(SP), a3, a3                                                                       \
	VPADDD  b0, a0, a0                                                                                \
	VPADDD  b1, a1, a1                                                                                \
	VPADDD  b2, a2, a2                                                                                \
	VPADDD  b3, a3, a3                                                                                \
	VPXOR   a0, d0, d0                                                                                \
	VPXOR   a1, d1, d1                                                                                \
	VPXOR   a2, d2, d2                                                                                \
	VPXOR   a3, d3, d3                                                                                \
	VPSHUFB by<>(SB), d0, d0                                                                          \
	VPSHUFB by<>(SB), d1, d1                                                                          \
	VPSHUFB by<>(SB), d2, d2                                                                          \
	VPSHUFB by<>(SB), d3, d3                                                                          \
	VPADDD  NINTH, d0, Y8                                                                             \
	VPADDD  d1, c1, c1                                                                                \
	VPADDD  d2, c2, c2                                                                                \
	VPADDD  d3, c3, c3                                                                                \
	VPXOR   Y8, b0, b0                                                                                \
	VPXOR   c1, b1, b1                                                                                \
	VPXOR   c2, b2, b2                                                                                \
	VPXOR   c3, b3, b3                                                                                \
	VMOVDQU Y8, NINTH                                                                                 \
	VPSRLD  r, b0, Y8                                                                                 \
	VPSLLD  l, b0, b0                                                                                 \
	VPOR    Y8, b0, b0                                                                                \
	VPSRLD  r, b1, Y8                                                                                 \
	VPSLLD  l, b1, b1                                                                                 \
	VPOR    Y8, b1, b1                                                                                \
	VPSRLD  r, b2, Y8                                                                                 \
	VPSLLD  l, b2, b2                                                                                 \
	VPOR    Y8, b2, b2                                                                                \
	VPSRLD  r, b3, Y8                                                                                 \
	VPSLLD  l, b3, b3                                                                                 \
	VPOR    Y8, b3, b3

// ROUND is eight G functions, of the columns and of the diagonals, with the words of the message that it names.
#define ROUND(m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15)                        \
	HALF(Y0, Y1, Y2, Y3, Y4, Y5, Y6, Y7, Y9, Y10, Y11, Y12, Y13, Y14, Y15, m0, m2, m4, m6, by16, $12, $20)    \
	HALF(Y0, Y1, Y2, Y3, Y4, Y5, Y6, Y7, Y9, Y10, Y11, Y12, Y13, Y14, Y15, m1, m3, m5, m7, by8, $7, $25)      \
	HALF(Y2, Y3, Y0, Y1, Y7, Y4, Y5, Y6, Y9, Y10, Y11, Y13, Y14, Y15, Y12, m12, m14, m8, m10, by16, $12, $20) \
	HALF(Y2, Y3, Y0, Y1, Y7, Y4, Y5, Y6, Y9, Y10, Y11, Y13, Y14, Y15, Y12, m13, m15, m9, m11, by8, $7, $25)

// STORE writes four words of every lane, 32 bytes for each.
#define STORE(a, b, c, d, at)     \
	TURN(a, b, c, d)                 \
	VEXTRACTI128 $0, a, (at+0)(DI)   \
	VEXTRACTI128 $1, a, (at+128)(DI) \
	VEXTRACTI128 $0, b, (at+32)(DI)  \
	VEXTRACTI128 $1, b, (at+160)(DI) \
	VEXTRACTI128 $0, c, (at+64)(DI)  \
	VEXTRACTI128 $1, c, (at+192)(DI) \
	VEXTRACTI128 $0, d, (at+96)(DI)  \
	VEXTRACTI128 $1, d, (at+224)(DI)

// func compress8(out *[8][8]uint32, in *byte, stride, blocks int, counters *[16 + 8]uint32, flags, first, last uint32)
TEXT ·compress8(SB), 0, $800-52
	MOVQ out+0(FP), DI
	MOVQ in+8(FP), SI
	MOVQ stride+16(FP), R8
	MOVQ blocks+24(FP), CX
	MOVQ counters+32(FP), DX
	MOVL flags+40(FP), R13
	MOVL first+44(FP), AX
	ORL  R13, AX
	LEAQ (R8)(R8*2), R9
	LEAQ (SI)(R8*4), R10

	VPBROADCASTD iv<>+0(SB), Y0
	VMOVDQU      Y0, (CHAIN+0)(SP)
	VPBROADCASTD iv<>+4(SB), Y0
	VMOVDQU      Y0, (CHAIN+32)(SP)
	VPBROADCASTD iv<>+8(SB), Y0
	VMOVDQU      Y0, (CHAIN+64)(SP)
	VPBROADCASTD iv<>+12(SB), Y0
	VMOVDQU      Y0, (CHAIN+96)(SP)
	VPBROADCASTD iv<>+16(SB), Y0
	VMOVDQU      Y0, (CHAIN+128)(SP)
	VPBROADCASTD iv<>+20(SB), Y0
	VMOVDQU      Y0, (CHAIN+160)(SP)
	VPBROADCASTD iv<>+24(SB), Y0
	VMOVDQU      Y0, (CHAIN+192)(SP)
	VPBROADCASTD iv<>+28(SB), Y0
	VMOVDQU      Y0, (CHAIN+224)(SP)

block:
	CMPQ CX, $1
	JNE  more
	ORL  last+48(FP), AX

more:
	LOAD(0, 0)
	LOAD(16, 4)
	LOAD(32, 8)
	LOAD(48, 12)

	VMOVDQU      (CHAIN+0)(SP), Y0
	VMOVDQU      (CHAIN+32)(SP), Y1
	VMOVDQU      (CHAIN+64)(SP), Y2
	VMOVDQU      (CHAIN+96)(SP), Y3
	VMOVDQU      (CHAIN+128)(SP), Y4
	VMOVDQU      (CHAIN+160)(SP), Y5
	VMOVDQU      (CHAIN+192)(SP), Y6
	VMOVDQU      (CHAIN+224)(SP), Y7
	VPBROADCASTD iv<>+0(SB), Y8
	VMOVDQU      Y8, NINTH
	VPBROADCASTD iv<>+4(SB), Y9
	VPBROADCASTD iv<>+8(SB), Y10
	VPBROADCASTD iv<>+12(SB), Y11
	VMOVDQU      (DX), Y12
	VMOVDQU      64(DX), Y13
	MOVL         $64, BX
	VMOVD        BX, X14
	VPBROADCASTD X14, Y14
	VMOVD        AX, X15
	VPBROADCASTD X15, Y15

	ROUND(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)
	ROUND(2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)
	ROUND(3, 4, 10, 12, 13, 2, 7, 14, 6, 5, 9, 0, 11, 15, 8, 1)
	ROUND(10, 7, 12, 9, 14, 3, 13, 15, 4, 0, 11, 2, 5, 8, 1, 6)
	ROUND(12, 13, 9, 11, 15, 10, 14, 8, 7, 2, 5, 3, 0, 1, 6, 4)
	ROUND(9, 14, 11, 5, 8, 12, 15, 1, 13, 3, 0, 10, 2, 6, 4, 7)
	ROUND(11, 15, 5, 0, 1, 9, 8, 6, 14, 10, 2, 12, 3, 4, 7, 13)

	VPXOR   NINTH, Y0, Y0
	VPXOR   Y9, Y1, Y1
	VPXOR   Y10, Y2, Y2
	VPXOR   Y11, Y3, Y3
	VPXOR   Y12, Y4, Y4
	VPXOR   Y13, Y5, Y5
	VPXOR   Y14, Y6, Y6
	VPXOR   Y15, Y7, Y7
	VMOVDQU Y0, (CHAIN+0)(SP)
	VMOVDQU Y1, (CHAIN+32)(SP)
	VMOVDQU Y2, (CHAIN+64)(SP)
	VMOVDQU Y3, (CHAIN+96)(SP)
	VMOVDQU Y4, (CHAIN+128)(SP)
	VMOVDQU Y5, (CHAIN+160)(SP)
	VMOVDQU Y6, (CHAIN+192)(SP)
	VMOVDQU Y7, (CHAIN+224)(SP)

	ADDQ $64, SI
	ADDQ $64, R10
	MOVL R13, AX
	DECQ CX
	JNZ  block

	STORE(Y0, Y1, Y2, Y3, 0)
	STORE(Y4, Y5, Y6, Y7, 16)
	VZEROUPPER
	RET
