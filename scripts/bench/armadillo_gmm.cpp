// Seconds of EM iterations of Armadillo's gmm_full on a binary matrix of doubles, column by column.
// usage: armadillo_gmm FILE d n k iterations...   prints: iterations seconds log-likelihood-a-row
#include <armadillo>
#include <chrono>
#include <cstdio>
#include <cstdlib>

int main(int argc, char** argv) {
    const arma::uword d = std::atoi(argv[2]), n = std::atoll(argv[3]), k = std::atoi(argv[4]);
    arma::mat X(d, n);
    std::FILE* file = std::fopen(argv[1], "rb");
    if (!file || std::fread(X.memptr(), sizeof(double), d * n, file) != d * n) return 1;
    std::fclose(file);
    for (int i = 5; i < argc; ++i) {
        const int iterations = std::atoi(argv[i]);
        arma::gmm_full model;
        const auto start = std::chrono::steady_clock::now();
        // seeded by spread-out rows, no k-means, so that the iterations are EM's
        const bool ok = model.learn(X, k, arma::eucl_dist, arma::static_spread, 0, iterations, 1e-10, false);
        const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
        std::printf("%d %.6f %.9f %d\n", iterations, seconds.count(), model.avg_log_p(X), int(ok));
        std::fflush(stdout);
    }
}
