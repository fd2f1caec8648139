// Milliseconds that MPI_Allreduce takes to sum so many floats over all ranks, the median of so many times: `allreduce FLOATS TIMES`.
// What bench/mpi.py holds the fixed sum of `lstm train` beside.
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv) {
    MPI_Init(&argc, &argv);
    int rank, floats = atoi(argv[1]), times = atoi(argv[2]);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    float *values = malloc(floats * sizeof(float));
    double *taken = malloc(times * sizeof(double));
    for (int i = 0; i < floats; i++) values[i] = (float)(rank + i);
    for (int t = -1; t < times; t++) {
        MPI_Barrier(MPI_COMM_WORLD);
        double before = MPI_Wtime();
        MPI_Allreduce(MPI_IN_PLACE, values, floats, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
        double own = MPI_Wtime() - before, slowest;
        MPI_Reduce(&own, &slowest, 1, MPI_DOUBLE, MPI_MAX, 0, MPI_COMM_WORLD);
        if (t >= 0) taken[t] = slowest;
        // Or they would grow beyond floats.
        for (int i = 0; i < floats; i++) values[i] = (float)(rank + i);
    }
    if (rank == 0) {
        qsort(taken, times, sizeof(double), ascending);
        printf("%.3f\n", 1e3 * taken[times / 2]);
    }
    MPI_Finalize();
}
